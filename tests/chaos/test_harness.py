"""The harness itself: the same seed gives the same plan, and what is wrong is found out."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos import groups, plan
from tests.chaos.calm import difference
from tests.chaos.fleet import Copy
from tests.chaos.outputs import Output, Witness
from tests.chaos.trail import Trail
from tests.chaos.writes import Desired

URL = "nats://127.0.0.1:4222"


def test_a_seed_gives_the_same_faults_and_operations_and_another_one_others() -> None:
    first, again, other = (list(itertools.islice(plan.rounds(seed, URL), 6)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_plan_leaves_a_worker_of_each_zone_and_harms_something_until_the_calm() -> None:
    for seed in range(20):
        for this in itertools.islice(plan.rounds(seed, URL), 4):
            until: dict[str, float] = {}
            for action in this.actions:
                if action.kind in plan.ON_WORKER:
                    zone = plan.zone_of(action.target)
                    assert until.get(zone, 0.0) <= action.at, this
                    until[zone] = action.at + action.hold
            assert any(action.at + action.hold > this.seconds for action in this.actions)


def output(n: int, epoch: int, at: float) -> Output:
    return Output(n=n, version=1, by=f"w{epoch}/1", copy=f"a-{epoch}", instance="a", epoch=epoch, at=at)


def test_an_event_that_comes_out_twice_is_found() -> None:
    witness = Witness()
    witness.heard("g", "a", output(1, epoch=1, at=1.0))
    witness.heard("g", "a", output(2, epoch=1, at=2.0))
    assert not witness.complaints
    witness.heard("g", "a", output(2, epoch=2, at=3.0))
    assert len(witness.complaints) == 1 and "doubled" in witness.complaints[0]


def test_an_older_copy_that_puts_out_after_a_newer_one_is_found_however_late_it_is_heard() -> None:
    witness = Witness()
    witness.heard("g", "a", output(1, epoch=1, at=1.0))
    witness.heard("g", "a", output(3, epoch=2, at=3.0))
    witness.heard("g", "a", output(2, epoch=1, at=2.0))  # put out before, heard after
    assert witness.two_at_once() == [] and witness.successions == 1
    witness.heard("g", "a", output(4, epoch=1, at=3.5))
    assert len(witness.two_at_once()) == 1


def view(spec: groups.Spec, worker: str = "w0", epoch: int = 5) -> dict[str, Any]:
    """As a coordinator shows a group that runs."""
    placements = [
        {
            "pipeline_name": name,
            "worker_id": worker,
            "epoch": epoch,
            "pipeline_id": f"{name}-1",
            "status": "running",
            "reason": None,
        }
        for name in sorted(groups.instances(spec))
    ]
    sources = {each["name"]: each["source"] for each in spec["pipelines"]}
    return {
        "name": spec["name"],
        "status": "running",
        "update": None,
        "sources": sources,
        "placements": placements,
    }


SPEC = {"name": "g", "pipelines": [{"name": "a", "source": groups.program(URL, "g", "a", 1)}]}
COPY = Copy(worker="w0", group="g", instance="a", epoch=5, id="a-1", state="running")


def wanted() -> Desired:
    desired = Desired()
    desired.created("g", SPEC)
    return desired


def test_what_is_as_it_should_be_has_no_difference() -> None:
    assert list(difference(wanted(), [view(SPEC)], [COPY])) == []


@pytest.mark.parametrize(
    "copies",
    [
        [],
        [replace(COPY, epoch=4)],
        [replace(COPY, worker="w1")],
        [replace(COPY, state="held")],
        [COPY, replace(COPY, worker="w1", id="a-2", epoch=4)],
        [COPY, replace(COPY, instance="b", id="b-1")],
        [COPY, replace(COPY, group="gone", id="a-3")],
    ],
    ids=["none", "old epoch", "elsewhere", "holds", "two", "nobody asked", "of no group"],
)
def test_what_workers_run_otherwise_is_a_difference(copies: list[Copy]) -> None:
    assert len(list(difference(wanted(), [view(SPEC)], copies))) == 1


def test_a_write_that_was_lost_and_one_that_nobody_acknowledged_are_differences() -> None:
    assert list(difference(wanted(), [], []))
    assert list(difference(Desired(), [view(SPEC)], [COPY]))
    desired = wanted()
    desired.updated("g", groups.changed(random.Random(1), SPEC, URL, 2))
    assert list(difference(desired, [view(SPEC)], [COPY])), "the former version runs"
    rolled_back = {**view(SPEC), "update": {"status": "rolled_back", "reason": "", "instances": 0, "done": 0}}
    assert not list(difference(desired, [rolled_back], [COPY]))


def test_an_update_to_what_a_group_is_or_may_have_gone_back_to_need_not_be_told() -> None:
    desired = Desired()
    first, second, third = ({**SPEC, "version": number} for number in range(3))
    desired.created("g", first)
    desired.updated("g", second)
    assert desired.may_be("g", first) and desired.may_be("g", second) and not desired.may_be("g", third)
    desired.settle("g", second)
    assert desired.may_be("g", second) and not desired.may_be("g", first)
    assert not desired.may_be("other", first)


def test_a_write_that_was_done_twice_or_never_is_found_in_the_trail() -> None:
    trail = Trail.__new__(Trail)
    trail.by_clients, trail.missed = Counter(group_created=2), False
    assert not list(trail.complaints({"deploy": 3}, {"deploy": 2}))
    assert list(trail.complaints({"deploy": 1}, {"deploy": 1}))
    assert list(trail.complaints({"deploy": 3}, {"deploy": 3}))
