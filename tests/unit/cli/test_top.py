"""`varpulis top`: rates, order, problems, and one sample where there is no terminal."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.main import main
from cli.terminal import Cropped
from cli.top.looks import Look
from cli.top.problems import problems
from cli.top.sample import Looks
from cli.top.view import tables
from tests.unit.cli.stand_in import Coordinator, serving
from tests.unit.cli.test_watch import worker


def placement(name: str, status: str = "running", on: str | None = "w1", **more: Any) -> dict[str, Any]:
    base = {
        "pipeline_id": f"{name}-1",
        "epoch": 3,
        "version": 1,
        "moving": None,
        "reason": None,
        "worker_id": on,
    }
    return {**base, "pipeline_name": name, "status": status, **more}


def node(name: str, contact: int | None = 5, lag: int = 0) -> dict[str, Any]:
    return {
        "id": name,
        "role": "follower",
        "match_index": 9,
        "lag": lag,
        "last_contact_ms": contact,
        "url": "",
    }


def raft(*nodes: dict[str, Any], leader: str | None = "c1") -> dict[str, Any]:
    base = {"this_node_id": "c1", "leader_id": leader, "term": 4, "commit_index": 9, "failure": None}
    return {**base, "nodes": list(nodes) or [node("c1")]}


def group(*placements: dict[str, Any], update: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": "doors",
        "placements": list(placements),
        "loss_windows": {"doors": 4},
        "traffic": {"doors": {"events_in": 7, "events_out": 1}},
        "update": update,
    }


WELL = Look(
    at=100.0,
    summary={"cluster_id": "c-1"},
    raft=raft(),
    leaders=raft(),
    workers=[worker("w1"), worker("w2")],
    groups=[group(placement("doors"))],
)


def counted(seen: Look, at: float, **events: int) -> Look:
    return replace(
        seen, at=at, workers=[{**one, "events_processed": events[one["id"]]} for one in seen.workers]
    )


def sampled(*looks: Look, order: str = "events/s") -> dict[str, Any]:
    kept = Looks()
    for each in looks:
        kept.add(each)
    return kept.sample(order)


def test_a_rate_is_the_difference_between_two_looks_over_the_time_between_them() -> None:
    sample = sampled(counted(WELL, 100.0, w1=50, w2=0), counted(WELL, 104.0, w1=90, w2=20))
    assert {one["id"]: one["events_per_sec"] for one in sample["workers"]} == {"w1": 10.0, "w2": 5.0}
    assert sample["events_per_sec"] == 15.0
    (doors,) = sample["pipelines"]
    assert doors["events_per_sec"] == 0.0, "none of what the worker handled was for it"


def test_the_rate_of_a_pipeline_is_that_of_its_present_copy() -> None:
    later = replace(
        WELL,
        at=104.0,
        groups=[{**WELL.groups[0], "traffic": {"doors": {"events_in": 27, "events_out": 1}}}],
    )
    (doors,) = sampled(WELL, later)["pipelines"]
    assert doors["events_per_sec"] == 5.0
    other = {**placement("doors"), "pipeline_id": "another"}
    moved = replace(later, groups=[{**later.groups[0], "placements": [other]}])
    (doors,) = sampled(WELL, moved)["pipelines"]
    assert doors["events_per_sec"] is None, "a new copy counts from 0"


def test_one_look_gives_no_rate_and_a_worker_that_began_anew_is_not_compared_with_what_it_was() -> None:
    assert sampled(WELL)["events_per_sec"] is None
    again = counted(WELL, 104.0, w1=60, w2=9)
    again.workers[0]["incarnation"] = "i-2"
    sample = sampled(counted(WELL, 100.0, w1=50, w2=7), again)
    assert {one["id"]: one["events_per_sec"] for one in sample["workers"]} == {"w1": None, "w2": 0.5}


@pytest.mark.parametrize(
    ("order", "first"),
    [("events/s", ["w3", "w2", "w1"]), ("load", ["w3", "w1", "w2"]), ("name", ["w3", "w1", "w2"])],
)
def test_what_is_not_well_comes_first_in_every_order(order: str, first: list[str]) -> None:
    seen = replace(WELL, workers=[worker("w2"), worker("w1"), worker("w3", "unhealthy")])
    seen.workers[1]["max_pipelines"] = 2
    sample = sampled(
        counted(seen, 100.0, w1=0, w2=0, w3=0), counted(seen, 101.0, w1=1, w2=9, w3=0), order=order
    )
    assert [one["id"] for one in sample["workers"]] == first


def test_problems_name_cause_and_remedy_the_worst_first() -> None:
    assert problems(WELL) == []
    sick = replace(
        WELL,
        leaders=raft(node("c1", None), node("c2", 9000), node("c3", 5, lag=5000)),
        workers=[worker("w1", "unhealthy")],
        groups=[
            group(
                placement("a", "pending", None, reason="no worker fits"),
                placement("b", "failed", None, reason="boom"),
                update={"status": "rolled_back", "reason": "b failed"},
            )
        ],
    )
    found = problems(sick)
    assert [one["kind"] for one in found] == ["bad"] * 3 + ["warn"] * 3
    said = " ".join(one["text"] for one in found)
    for text in (
        "c2 is silent",
        "c3 lags by 5000",
        "w1 is not heard",
        "a runs nowhere: no",
        "b failed: boom",
    ):
        assert text in said
    assert all(one["remedy"] for one in found)
    assert "c1 is silent" not in said, "the one that speaks"
    (no_leader,) = problems(replace(WELL, raft=raft(leader=None), leaders=None))
    assert no_leader["text"].startswith("No coordinator leads")


def test_a_large_cluster_leaves_room_for_each_table_and_says_what_is_left_out() -> None:
    many = replace(
        WELL,
        workers=[worker(f"w{number}") for number in range(500)],
        groups=[group(*(placement(f"p{number}") for number in range(500)))],
    )
    shown = tables(sampled(many), 40)
    console = Console(width=150)
    lines = [
        line
        for table in shown
        for part in ["", *table.parts(edge=False)]
        for line in console.render_lines(part)
    ]
    assert 30 < len(lines) <= 40
    cut = [len(table.rows) for table in shown if " of 500" in table.title]
    assert len(cut) == 2 and min(cut) > 2


def test_a_screen_that_is_too_small_says_how_much_is_missing() -> None:
    console = Console(width=60, height=5, force_terminal=False)
    with console.capture() as capture:
        console.print(Cropped([f"line {number}" for number in range(9)]), height=5, end="")
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[:4] == ["line 0", "line 1", "line 2", "line 3"]
    assert lines[4:] == ["... and 5 lines more: make the terminal larger"]


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    """Answers as a cluster whose worker w1 has handled 100 events more each time it is asked."""
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        page = {"pagination": {"has_more": False}}
        looks = iter(range(1, 1000))

        def answer(path: str) -> Any:
            if path.startswith("/workers"):
                return {"workers": [{**worker("w1"), "events_processed": 100 * next(looks)}], **page}
            if path.startswith("/pipeline-groups"):
                return {"pipeline_groups": WELL.groups, **page}
            return WELL.summary if path == "/summary" else WELL.raft

        server.answers = answer
        yield server


def test_elsewhere_than_on_a_terminal_it_is_one_sample_of_two_looks(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("cli.commands.top.time.sleep", pauses.append)
    assert main(["top", "--every", "5", "-o", "json"]) == 0
    sample = json.loads(capsys.readouterr().out)
    assert pauses == [5.0]
    assert sample["leader_id"] == "c1" and sample["problems"] == [] and sample["events_per_sec"] > 0
    assert len([path for _, path, _ in coordinator.asked if path.startswith("/workers")]) == 2
    assert main(["top"]) == 0
    shown = capsys.readouterr().out
    assert "leader c1" in shown and "All is well." in shown and "doors/doors" in shown
    assert "\x1b" not in shown


def test_an_interval_out_of_bounds_is_wrong_usage(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--every", "0"]) == 2
    assert "--every 0 is out of range" in capsys.readouterr().err
    assert coordinator.asked == []
