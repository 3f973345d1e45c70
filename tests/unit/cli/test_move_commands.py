"""The commands that move pipelines: what they ask, how they follow a job, when they fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

MOVE: dict[str, Any] = {
    "id": "m-7",
    "migration_id": "m-7",
    "group_id": "g",
    "pipeline": "p",
    "cause": "manual",
    "status": "done",
    "from_worker": "w1",
    "to_worker": "w2",
    "reason": None,
}
JOB: dict[str, Any] = {
    "worker_id": "w1",
    "status": "active",
    "total": 3,
    "moved": 1,
    "left": 2,
    "failed": {"g/p": "no room"},
    "reason": "g/p: no worker can take it",
    "cordoned": True,
}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


def answers(coordinator: Coordinator, document: dict[str, Any]) -> None:
    coordinator.answer = json.dumps(document).encode()


@pytest.mark.parametrize(
    ("arguments", "answer", "asked"),
    [
        (["migrate", "g/p"], MOVE, ("POST", "/pipelines/g/p/migrate", {"to": None})),
        (["migrate", "g/p", "--to", "w2"], MOVE, ("POST", "/pipelines/g/p/migrate", {"to": "w2"})),
        (["migrate", "a.b/c?"], MOVE, ("POST", "/pipelines/a.b/c%3F/migrate", {"to": None})),
        (["worker", "drain", "w1"], JOB, ("POST", "/workers/w1/drain", {})),
        (
            ["worker", "drain", "w1", "--within", "9"],
            JOB,
            ("POST", "/workers/w1/drain", {"timeout_secs": 9.0}),
        ),
        (["worker", "drain", "w1", "--cancel"], JOB, ("DELETE", "/workers/w1/drain", None)),
        (["worker", "cordon", "w1"], JOB, ("POST", "/workers/w1/cordon", {})),
        (["worker", "uncordon", "w1"], JOB, ("POST", "/workers/w1/uncordon", {})),
    ],
)
def test_a_command_asks_once_and_shows_what_is(
    coordinator: Coordinator,
    arguments: list[str],
    answer: dict[str, Any],
    asked: tuple[str, str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers(coordinator, answer)
    assert main(arguments) == 0
    assert coordinator.asked[0] == asked
    assert all(method == "GET" for method, _, _ in coordinator.asked[1:])
    assert ("w1" if "worker" in arguments else "m-7") in capsys.readouterr().out
    assert main([*arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_a_job_that_is_not_done_in_time_is_exit_code_1_with_what_stands_in_the_way(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(coordinator, JOB)
    assert main(["worker", "drain", "w1", "--wait", "0.3"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "1 of 3 moved, 2 left: active: g/p: no worker can take it"
    assert said[1:] == ["varpulis: drain of w1 is active: g/p: no worker can take it"], (
        "progress is said once"
    )


def test_a_migration_that_failed_is_exit_code_1_when_one_waits_for_it(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(coordinator, {**MOVE, "status": "failed", "reason": "worker w2 is silent"})
    assert main(["migrate", "g/p", "--wait", "5"]) == 1
    assert "g/p is failed: worker w2 is silent" in capsys.readouterr().err
    assert main(["migrate", "g/p"]) == 0, "without --wait it is only started"


def test_migrations_lists_those_under_way_first(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(coordinator, {"migrations": [MOVE, {**MOVE, "id": "m-6", "status": "held"}], "total": 2})
    assert main(["migrations"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("m-6") < shown.index("m-7")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["migrate", "g"], "GROUP/PIPELINE"),
        (["migrate", "g/p", "--wait", "-1"], "--wait -1 is out of range"),
        (["worker", "drain"], "required: id"),
        (["worker", "drain", "w1", "--within", "1e9"], "--within 1e+09 is out of range"),
        (["worker", "dain", "w1"], "did you mean 'drain'"),
        (["worker"], "worker.id is missing"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    coordinator: Coordinator, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert coordinator.asked == []
