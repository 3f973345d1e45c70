"""`varpulis rebalance`: what it sends, shows, and when it fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

MOVES = [
    {"group": "g", "pipeline_name": f"p-{number}", "from_worker": "w-1", "to_worker": "w-2"}
    for number in range(2)
]


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


def answer(ids: list[str], moves: list[dict[str, Any]], reason: str | None = None) -> bytes:
    view = {"migrations_started": len(ids), "migration_ids": ids, "moves": moves, "reason": reason}
    return json.dumps(view).encode()


@pytest.mark.parametrize(
    ("flags", "sent", "ids", "moves", "shown"),
    [
        (["--dry-run"], "true", [], MOVES, ["2 moves, 0 started", "p-0", "w-1", "w-2"]),
        ([], "false", ["m-7", "m-8"], MOVES, ["2 moves, 2 started", "m-7", "m-8"]),
        ([], "false", [], [], ["the loads are even"]),
    ],
)
def test_the_plan_is_shown_with_what_was_started(
    coordinator: Coordinator,
    flags: list[str],
    sent: str,
    ids: list[str],
    moves: list[dict[str, Any]],
    shown: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator.answer = answer(ids, moves)
    assert main(["rebalance", *flags]) == 0
    assert coordinator.asked == [("POST", f"/rebalance?dry_run={sent}", {})]
    said = capsys.readouterr().out
    assert all(text in said for text in shown), said


def test_a_move_that_was_refused_is_told_and_is_a_failure(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.answer = answer(["m-7"], MOVES, "no room left")
    assert main(["rebalance"]) == 1
    assert "no room left" in capsys.readouterr().err
