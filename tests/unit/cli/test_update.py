"""`varpulis update`: what it sends, shows, and when it fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

SPEC = {"name": "doors", "pipelines": [{"name": "p", "source": "stream Out = In"}]}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doors.json").write_text(json.dumps(SPEC))
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


def group(status: str | None, reason: str | None = None, **update: Any) -> bytes:
    roll = {"status": status, "reason": reason, "ended_at": 5, **update} if status is not None else None
    placement = {"pipeline_name": "p", "status": "running", "worker_id": "w-1", "version": 2}
    return json.dumps({"name": "doors", "version": 2, "placements": [placement], "update": roll}).encode()


def test_it_sends_the_file_and_the_version_that_it_must_have(coordinator: Coordinator) -> None:
    coordinator.answer = group("done")
    assert main(["update", "doors", "doors.json", "--if-version", "1", "--wait", "5"]) == 0
    assert coordinator.asked == [("PUT", "/pipeline-groups/doors?wait=5.0", SPEC)]
    assert coordinator.headers[0]["if-match"] == '"1"' and coordinator.headers[0]["idempotency-key"]


@pytest.mark.parametrize(
    ("answer", "wait", "code", "told"),
    [
        (group("done"), "5", 0, "version 2, done"),
        (group(None), "5", 0, "version 2, unchanged"),
        (group("rolling", ended_at=None), "0", 0, "version 2, rolling"),
        (group("rolling", ended_at=None), "5", 1, "it takes longer than --wait"),
        (group("rolled_back", "p: worker w-1: no"), "5", 1, "doors is rolled back: p: worker w-1: no"),
        (group("rolled_back", "p: worker w-1: no"), "0", 1, "rolled back"),
    ],
)
def test_it_fails_when_the_new_version_does_not_run_in_time(
    coordinator: Coordinator,
    answer: bytes,
    wait: str,
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator.answer = answer
    assert main(["update", "doors", "doors.json", "--wait", wait]) == code
    said = capsys.readouterr()
    assert told in said.out + said.err


def test_a_dry_run_shows_each_change_with_its_worker_or_why_there_is_none(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        {"pipeline_name": "p", "change": "updated", "worker_id": "w-1", "reason": None},
        {"pipeline_name": "q", "change": "added", "worker_id": None, "reason": "no worker can take it"},
    ]
    plan = {"id": "doors", "from_version": 1, "to_version": 2, "changes": changes}
    coordinator.answer = json.dumps(plan).encode()
    assert main(["update", "doors", "doors.json", "--dry-run"]) == 0
    assert coordinator.asked == [("PUT", "/pipeline-groups/doors?dry_run=true", SPEC)]
    said = capsys.readouterr().out
    assert all(text in said for text in ("updated", "w-1", "no worker can take it", "nothing was changed"))


def test_a_rollback_says_where_to_and_why_and_only_of_which_version(coordinator: Coordinator) -> None:
    coordinator.answer = group("done")
    words = ["group", "rollback", "doors", "--to", "2", "--why", "alarms", "--if-version", "3", "--wait", "5"]
    assert main(words) == 0
    asked = ("POST", "/pipeline-groups/doors/rollback?wait=5.0", {"to": 2, "why": "alarms"})
    assert coordinator.asked == [asked]
    assert coordinator.headers[0]["if-match"] == '"3"' and coordinator.headers[0]["idempotency-key"]


@pytest.mark.parametrize(("reason", "code"), [("a rollback was asked for: x", 0), ("p: worker w-1: no", 1)])
def test_a_rollback_has_done_its_work_when_the_update_went_back_because_of_it(
    coordinator: Coordinator, reason: str, code: int
) -> None:
    coordinator.answer = group("rolled_back", reason)
    assert main(["group", "rollback", "doors", "--wait", "5"]) == code
    assert main(["update", "doors", "doors.json", "--wait", "5"]) == 1, "for an update it is a failure"


def test_the_reason_of_an_update_goes_along(coordinator: Coordinator) -> None:
    coordinator.answer = group("done")
    assert main(["update", "doors", "doors.json", "--why", "more doors", "--wait", "5"]) == 0
    assert coordinator.asked[0][1] == "/pipeline-groups/doors?wait=5.0&why=more+doors"


def test_the_history_shows_each_version_with_who_and_why(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = [
        {"version": 2, "status": "present", "at": 86_400_000, "by": "api:k", "why": "w", "reason": None},
        {"version": 1, "status": "failed", "at": 0, "by": "api", "why": "", "reason": "it broke"},
    ]
    found = {"id": "doors", "versions": [{**one, "pipelines": ["p", "q"]} for one in versions]}
    coordinator.answer = json.dumps(found).encode()
    assert main(["group", "history", "doors"]) == 0
    assert coordinator.asked == [("GET", "/pipeline-groups/doors/history", None)]
    said = capsys.readouterr().out
    assert all(text in said for text in ("1970-01-02T00:00:00Z", "api:k", "it broke", "present", "p, q"))


def test_a_pipeline_is_scaled_by_its_name_and_a_number(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.answer = group("done")
    assert main(["group", "scale", "doors/p", "3", "--wait", "5"]) == 0
    assert coordinator.asked == [
        ("POST", "/pipeline-groups/doors/scale?wait=5.0", {"pipeline": "p", "replicas": 3})
    ]
    assert main(["group", "scale", "doors", "3"]) == main(["group", "scale", "doors/p", "many"]) == 2
    said = capsys.readouterr().err
    assert "GROUP/PIPELINE" in said and "no number of replicas" in said and len(coordinator.asked) == 1
