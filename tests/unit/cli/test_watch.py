"""`--watch`, on a pipe: what is shown, what ends it, and what does not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cli.watch
from cli.catalog import COMMANDS
from cli.main import main
from cli.watch import Patience
from tests.unit.cli.stand_in import Coordinator, serving


def worker(name: str, status: str = "ready") -> dict[str, Any]:
    return {
        "id": name,
        "status": status,
        "cordoned": False,
        "pipelines_running": 1,
        "max_pipelines": 10,
        "events_processed": 7,
        "last_heartbeat_age_ms": 5,
        "address": "",
        "assigned_pipelines": ["doors/doors"],
        "cpu_cores": 8,
        "labels": {"zone": "a"},
        "carrier": "nats",
        "incarnation": "i-1",
    }


def listing(*workers: dict[str, Any]) -> bytes:
    return json.dumps({"workers": workers, "pagination": {"has_more": False}}).encode()


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        server.answer = listing(worker("w1"))
        monkeypatch.setenv("VARPULIS_URL", server.url)
        monkeypatch.setenv("VARPULIS_TIMEOUT", "0.3")
        yield server


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Say what happens between two looks, one step each; after the last step Ctrl-C."""

    def plan(*steps: Callable[[], None]) -> list[float]:
        pauses: list[float] = []

        def pause(self: object, seconds: float) -> str:
            pauses.append(seconds)
            if len(pauses) > len(steps):
                raise KeyboardInterrupt
            steps[len(pauses) - 1]()
            return ""

        monkeypatch.setattr(cli.watch._Pipe, "pause", pause)
        return pauses

    return plan


def test_on_a_pipe_one_table_comes_after_the_other_until_ctrl_c(
    coordinator: Coordinator, between: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = between(lambda: setattr(coordinator, "answer", listing(worker("w1"), worker("w2"))))
    assert main(["workers", "--watch", "--every", "7"]) == 130
    shown = capsys.readouterr().out
    assert (shown.count("WORKER"), shown.count("w1"), shown.count("w2")) == (2, 2, 1)
    assert pauses == [7.0, 7.0]


def test_json_is_a_document_a_line_and_yaml_has_dashes_between_two(
    coordinator: Coordinator, between: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    between(lambda: None)
    assert main(["workers", "--watch", "-o", "json"]) == 130
    wanted = {"workers": [worker("w1")], "total": 1}
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [wanted, wanted]
    between(lambda: None)
    assert main(["workers", "--watch", "-o", "yaml"]) == 130
    out = capsys.readouterr().out
    assert list(yaml.safe_load_all(out)) == [wanted, wanted]
    assert out.splitlines().count("---") == 1


def test_a_cluster_that_does_not_answer_is_told_once_and_asked_ever_later(
    coordinator: Coordinator,
    between: Callable[..., list[float]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def away() -> None:
        refusal = {"error": "no leader", "code": "unavailable"}
        coordinator.status, coordinator.answer = 503, json.dumps(refusal).encode()

    def back() -> None:
        coordinator.status, coordinator.answer = 200, listing(worker("w2"))

    pauses = between(away, lambda: None, lambda: None, back)
    assert main(["workers", "--watch", "--every", "1", "-o", "json"]) == 130
    out, err = capsys.readouterr()
    assert [json.loads(line)["workers"][0]["id"] for line in out.splitlines()] == ["w1", "w2"]
    assert err.count("watching goes on") == 1 and "no leader" in err
    assert pauses == [1.0, 2.0, 4.0, 8.0, 1.0]


def test_the_wait_for_a_cluster_that_is_away_has_a_bound_and_is_forgotten_once_it_answers() -> None:
    patience = Patience(2.0)
    assert [patience.failed() for _ in range(40)][-1] == 30.0
    assert patience.answered() == 2.0
    assert patience.failed() == 4.0
    assert Patience(60.0).failed() == 60.0


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (404, "not_found")])
def test_a_refusal_that_waiting_does_not_mend_ends_it_with_one_document(
    coordinator: Coordinator,
    between: Callable[..., list[float]],
    capsys: pytest.CaptureFixture[str],
    status: int,
    code: str,
) -> None:
    pauses = between()
    coordinator.status, coordinator.answer = status, json.dumps({"error": "no", "code": code}).encode()
    assert main(["workers", "--watch", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["code"] == code and out.count("\n") == 1 and err == f"varpulis: no ({code})\n"
    assert pauses == []


def test_a_key_that_is_refused_later_ends_it_and_adds_no_document(
    coordinator: Coordinator, between: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    def revoked() -> None:
        coordinator.status, coordinator.answer = 401, b'{"error": "no such key", "code": "unauthorized"}'

    between(revoked)
    assert main(["workers", "--watch", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and json.loads(out)["total"] == 1 and "no such key" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--watch", "--every", "0.1"], "--every 0.1 is out of range: give seconds from 0.2 to 3600"),
        (["--watch", "--every", "3601"], "out of range"),
        (["--watch", "--every", "nan"], "out of range"),
        (["--every", "3"], "say --watch as well"),
    ],
)
def test_an_interval_out_of_bounds_or_without_watching_is_wrong_usage(
    coordinator: Coordinator, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["workers", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert coordinator.asked == []


def test_watching_shows_wide_tables_too(
    coordinator: Coordinator, between: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    between()
    assert main(["workers", "--watch", "-o", "wide"]) == 130
    assert "zone=a" in capsys.readouterr().out


def test_a_wide_table_has_the_further_columns_in_one_line_and_the_plain_one_has_not(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["workers"]) == 0
    assert "LABELS" not in capsys.readouterr().out
    assert main(["workers", "-o", "wide"]) == 0
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if line.lstrip().startswith("w1")]
    assert "INCARNATION" in shown and "zone=a" in row and "i-1" in row


def test_what_a_stranger_named_moves_no_cursor(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.answer = listing(worker("w1", "\x1b[2Jgone"))
    assert main(["workers"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "[2Jgone" in shown


def test_commands_that_change_something_are_not_watched() -> None:
    watched = {command.name for command in COMMANDS if command.watch}
    assert {
        "status",
        "workers",
        "groups",
        "pipeline status",
        "migrations",
        "raft status",
        "scaling",
    } <= watched
    assert not watched & {"deploy", "update", "rebalance", "migrate", "worker drain", "key rotate", "inject"}


def test_a_failure_leaves_one_document_in_the_form_that_was_asked_for(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    for asked in (["-o", "yaml"], ["-oyaml"], ["-o=yaml"], ["--output=yaml"], ["-o", "json", "-o", "yaml"]):
        assert main(["inject", "g", "T", "field", *asked]) == 2
        assert yaml.safe_load(capsys.readouterr().out)["code"] == "wrong_usage"
    assert main(["workers", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"workers": [worker("w1")], "total": 1}


def test_what_can_be_had_as_json_can_be_had_as_yaml() -> None:
    assert all(("json" in command.outputs) == ("yaml" in command.outputs) for command in COMMANDS)


def test_followed_events_are_a_stream_in_the_form_that_was_asked_for(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    event = {"seq": 7, "at": 0, "by": "api", "what": "group_created", "about": "doors", "why": "no"}
    page = {"events": [event, event], "newest": 7, "complete": True, "pagination": {"has_more": False}}

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.commands.events.time.sleep", interrupted)
    shown = {}
    for form in ("json", "yaml", "wide"):
        answers = iter([page])
        coordinator.answers = lambda path, answers=answers: next(answers, {**page, "events": []})
        assert main(["events", "--follow", "-o", form]) == 130
        shown[form] = capsys.readouterr().out
    assert [json.loads(line) for line in shown["json"].splitlines()] == [event, event]
    assert list(yaml.safe_load_all(shown["yaml"])) == [event, event]
    assert shown["wide"].startswith("7  ") and shown["wide"].count("group_created") == 2
