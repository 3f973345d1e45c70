"""Subjects: the table of the wire, and ids that would reach somebody else's subscription."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.subjects import EXTERNAL, Subjects, check_id, check_publishable, last_token

subjects = Subjects()

HOSTILE = ["", "a.b", "*", ">", "a b", "a\n", "a\tb", "worker-ä", "a" * 65, ".", "a.", "\x00", "a>", "w*"]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (subjects.register, "varpulis.cluster.register"),
        (subjects.heartbeats, "varpulis.cluster.heartbeat.>"),
        (subjects.relays, "varpulis.cluster.relay.>"),
        (subjects.relay("w-1"), "varpulis.cluster.relay.w-1"),
        (subjects.heartbeat("worker-0"), "varpulis.cluster.heartbeat.worker-0"),
        (subjects.command("worker-0", "deploy"), "varpulis.cluster.cmd.worker-0.deploy"),
        (subjects.commands("worker-0"), "varpulis.cluster.cmd.worker-0.>"),
        (subjects.pipeline("hq", "a", "b"), "varpulis.cluster.pipeline.hq.a.b"),
        (subjects.pipeline("hq", EXTERNAL, "b"), "varpulis.cluster.pipeline.hq._external.b"),
        (subjects.pipeline_inputs("hq", "b"), "varpulis.cluster.pipeline.hq.*.b"),
        (subjects.raft("coordinator-0", "append"), "varpulis.cluster.raft.coordinator-0.append"),
        (subjects.raft_inbox("coordinator-0"), "varpulis.cluster.raft.coordinator-0.>"),
        (Subjects("acme.prod").register, "acme.prod.register"),
    ],
)
def test_the_table_of_the_wire(subject: str, expected: str) -> None:
    assert subject == expected


@pytest.mark.parametrize("value", HOSTILE)
def test_an_id_that_is_more_than_one_token_enters_no_subject(value: str) -> None:
    builds: list[Callable[[], str]] = [
        lambda: subjects.heartbeat(value),
        lambda: subjects.command(value, "deploy"),
        lambda: subjects.command("worker-0", value),
        lambda: subjects.commands(value),
        lambda: subjects.pipeline(value, "a", "b"),
        lambda: subjects.pipeline("g", value, "b"),
        lambda: subjects.pipeline("g", "a", value),
        lambda: subjects.pipeline_inputs("g", value),
        lambda: subjects.raft(value, "append"),
        lambda: subjects.raft_inbox(value),
    ]
    for build in builds:
        with pytest.raises(ValueError, match="use 1 to 64 letters"):
            build()


@given(st.text())
def test_what_passes_as_an_id_is_exactly_one_token(value: str) -> None:
    try:
        check_id(value)
    except ValueError:
        return
    assert 1 <= len(value) <= 64
    assert value.isascii()
    assert not set(value) & set(".*> \t\r\n")
    assert last_token(subjects.heartbeat(value)) == value


@pytest.mark.parametrize("prefix", ["", ".", "a..b", "a.*", ">", "a b", ".a", "a.", ".".join("abcdefghi")])
def test_a_prefix_that_is_no_subject_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="subject prefix"):
        Subjects(prefix)


@pytest.mark.parametrize("subject", ["", "a..b", "a.*", "a.>", "a b", "a.", "x" * 256])
def test_a_subject_with_a_wildcard_or_an_empty_token_is_not_publishable(subject: str) -> None:
    with pytest.raises(ValueError, match="is not valid"):
        check_publishable(subject)


def test_a_plain_subject_is_publishable() -> None:
    assert check_publishable("alerts.doors") == "alerts.doors"
