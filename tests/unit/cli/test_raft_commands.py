"""The commands that change the Raft group: what they send, what they ask first, what a refusal looks like."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.http import Connections, NoAnswer
from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

GENERATION = {"number": 2, "members": ["c1", "c2", "c4"], "retired": ["c3"]}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        server.answer = json.dumps(GENERATION).encode()
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["transfer", "c2"], ("POST", "/raft/transfer?wait=30.0", {"to": "c2"})),
        (["transfer", "--wait", "3"], ("POST", "/raft/transfer?wait=3.0", {"to": None})),
        (["add", "c4"], ("POST", "/raft/members?wait=30.0", {"id": "c4", "replaces": None})),
        (
            ["add", "c4", "--replaces", "c3"],
            ("POST", "/raft/members?wait=30.0", {"id": "c4", "replaces": "c3"}),
        ),
        (["remove", "c3", "--yes"], ("DELETE", "/raft/members/c3?wait=30.0", None)),
    ],
)
def test_a_change_is_one_request_and_its_answer_is_shown(
    coordinator: Coordinator,
    arguments: list[str],
    asked: tuple[str, str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator.answer = json.dumps({**GENERATION, "leader_id": "c2"}).encode()
    assert main(["raft", *arguments]) == 0
    assert coordinator.asked == [asked]
    shown = capsys.readouterr().out
    assert ("c2 leads" if arguments[0] == "transfer" else "c1, c2, c4") in shown
    assert main(["raft", *arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(coordinator.answer)


def test_a_refusal_is_exit_code_1_with_the_reason_and_the_clusters_word(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": "the members stay as they are: c4 does not answer", "code": "conflict"}
    coordinator.status, coordinator.answer = 409, json.dumps(refusal).encode()
    assert main(["raft", "add", "c4", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["code"] == "conflict" and "c4 does not answer" in err
    assert len(coordinator.asked) == 1


@pytest.mark.parametrize("arguments", [["transfer"], ["add", "c4"], ["snapshot", "save", "x.backup"]])
def test_a_wait_beyond_what_the_cluster_waits_is_wrong_usage(
    coordinator: Coordinator, arguments: list[str]
) -> None:
    assert main(["raft", *arguments, "--wait", "61"]) == 2
    assert main(["raft", *arguments, "--wait", "-1"]) == 2
    assert coordinator.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["transfer", ""],
        ["add", "a b"],
        ["add", "c4", "--replaces", "c/3"],
        ["remove", "a/b", "--yes"],
        ["recover", "--id", "c 1", "--members", "c 1", "--i-accept-lost-writes"],
    ],
)
def test_an_id_that_cannot_be_one_is_wrong_usage(
    coordinator: Coordinator, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["raft", *arguments]) == 2
    assert "use 1 to 64 letters" in capsys.readouterr().err
    assert coordinator.asked == []


def test_what_a_coordinator_said_is_told_rather_than_that_time_was_up(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": "no leader within 1.5 s", "code": "unavailable"}
    coordinator.status, coordinator.answer = 503, json.dumps(refusal).encode()
    assert main(["raft", "transfer", "--wait", "0.2", "--timeout", "0.3"]) == 1
    said = capsys.readouterr().err
    assert "no leader within 1.5 s" in said and "--timeout 0.3 s and --wait 0.2 s" in said


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "exit_code"), [(Terminal("c3\n"), 0), (Terminal("yes\n"), 2), (Terminal(""), 2)]
)
def test_a_removal_wants_the_id_typed(
    coordinator: Coordinator, stdin: Terminal, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin.seek(0)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["raft", "remove", "c3"]) == exit_code
    assert len(coordinator.asked) == (1 if exit_code == 0 else 0)


def test_a_removal_by_a_script_wants_yes(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("c3\n"))
    assert main(["raft", "remove", "c3"]) == 2
    said = capsys.readouterr().err
    assert "--yes" in said and "never be used again" in said
    assert coordinator.asked == []


def test_a_large_answer_tells_how_far_it_has_come_and_is_whole(coordinator: Coordinator) -> None:
    coordinator.answer = bytes(range(256)) * 12_000
    told: list[tuple[int, int | None]] = []
    connections = Connections(lambda come, total: told.append((come, total)))
    answer = connections("GET", coordinator.url + "/x", timeout=5)
    assert answer.body == coordinator.answer
    assert [come for come, _ in told] == [1_048_576, 2_097_152, 3_072_000]
    assert {total for _, total in told} == {3_072_000}
    coordinator.cut = 1_000
    with pytest.raises(NoAnswer):
        connections("GET", coordinator.url + "/x", timeout=5)
    connections.close()
