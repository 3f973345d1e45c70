"""`varpulis pipeline status`: what it shows of a group, and when it fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving


def placement(name: str, status: str = "running", **more: Any) -> dict[str, Any]:
    base = {"worker_id": "w1", "epoch": 7, "version": 2, "reason": None, "instance_of": name}
    return {**base, "pipeline_name": name, "status": status, **more}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        monkeypatch.setenv("COLUMNS", "160")
        placements = [
            placement("totals", reason="went on from a checkpoint 2.0 s old"),
            placement("alerts"),
            placement("late-0", "pending", instance_of="late"),
        ]
        group = {"name": "doors", "placements": placements, "loss_windows": {"totals": 4}}
        server.answer = json.dumps(group).encode()
        yield server


def test_it_shows_the_loss_window_of_one_pipeline_and_what_it_began_from(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", "status", "doors/totals"]) == 0
    shown = capsys.readouterr().out
    assert "4 s" in shown and "went on from a checkpoint 2.0 s old" in shown and "alerts" not in shown
    assert coordinator.asked[0][1] == "/pipeline-groups/doors"


def test_it_fails_while_a_pipeline_does_not_run_and_says_what_is_not_known(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", "status", "doors"]) == 1
    assert "not known" in capsys.readouterr().out
    assert main(["pipeline", "status", "doors/late"]) == 1, "the instances of a pipeline count for it"


def test_a_pipeline_that_is_not_there_is_named_beside_those_that_are(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", "status", "doors/totls"]) == 2
    assert "there are totals, alerts, late-0" in capsys.readouterr().err
