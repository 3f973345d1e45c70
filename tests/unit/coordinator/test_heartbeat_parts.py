"""Heartbeats in parts: one that is lost, late or twice there never makes a copy look gone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.heartbeats import HeartbeatTable
from coordinator.state.records import Phase
from proto_schemas.messages.membership import (
    MAX_PARTS,
    Heartbeat,
    HeartbeatPart,
    PipelineMetrics,
    RunningPipeline,
)
from tests.unit.coordinator.stage import Stage
from tests.unit.coordinator.test_worker_listener import Ears


def parts(seq: int, *shares: list[str], incarnation: str = "i1", **more: object) -> list[Heartbeat]:
    """A heartbeat that lists these copies, a share in each part."""
    running = sum(map(len, shares))
    return [
        Heartbeat(
            events_processed=seq,
            pipelines_running=running,
            incarnation=incarnation,
            seq=seq,
            pipeline_metrics=[
                PipelineMetrics(pipeline_name=name, events_in=int(name), events_out=0) for name in share
            ],
            part=HeartbeatPart(
                number=number,
                of=len(shares),
                pipelines=[RunningPipeline(pipeline_id=name, group="g", name=name) for name in share],
                loss_windows=[int(name) for name in share],
            ),
        )
        for number, share in enumerate(shares)
    ]


def listed(table: HeartbeatTable) -> list[str] | None:
    heard = table.get("w")
    assert heard is not None
    return list(heard.pipelines) if heard.pipelines is not None else None


def test_all_parts_together_are_one_heartbeat() -> None:
    table = HeartbeatTable()
    first, second = parts(1, ["1", "2"], ["3"])
    assert table.heard("w", first, 1.0), "a worker that was unknown lives"
    heard = table.get("w")
    assert heard is not None and (heard.at, heard.count, heard.pipelines) == (1.0, 0, None)
    assert table.heard("w", second, 2.0)
    heard = table.get("w")
    assert heard is not None and (heard.at, heard.count, heard.seq) == (2.0, 1, 1)
    assert listed(table) == ["1", "2", "3"] and heard.loss_window("3") == 3
    assert {name: each.events_in for name, each in heard.counted().items()} == {"1": 1, "2": 2, "3": 3}
    for again in parts(2, ["1", "2"], ["3"]):
        assert not table.heard("w", again, 3.0), "no news"
    assert table.incomplete == table.out_of_order == 0


def test_a_part_that_is_lost_leaves_what_the_last_whole_one_said() -> None:
    table = HeartbeatTable()
    for each in parts(1, ["1"], ["2"]):
        table.heard("w", each, 1.0)
    before = table.get("w")
    first, _ = parts(2, ["1"], ["2"])
    table.heard("w", first, 2.0)
    after = table.get("w")
    assert before is not None and after is not None
    assert after.pipelines is before.pipelines and after.count == before.count == 1
    assert (after.at, after.events_processed) == (2.0, 2), "it lives, and that counts"
    for each in parts(3, ["1"], []):
        table.heard("w", each, 3.0)
    assert listed(table) == ["1"] and table.incomplete == 1


def test_parts_of_different_heartbeats_or_processes_are_never_put_together() -> None:
    table = HeartbeatTable()
    one, _ = parts(1, ["1"], ["2"])
    _, two = parts(2, ["3"], ["4"])
    _, other = parts(2, ["5"], ["6"], incarnation="i2")
    three_parts = parts(2, ["7"], ["8"], ["9"])
    for each in (one, two, other, *three_parts[:1]):
        table.heard("w", each, 1.0)
        assert listed(table) is None


def test_a_late_part_of_an_older_heartbeat_changes_nothing() -> None:
    table = HeartbeatTable()
    old_first, old_second = parts(1, ["1"], ["2"])
    new_first, new_second = parts(2, ["3"], ["4"])
    for each in (old_first, new_first, old_second, new_second, old_second):
        table.heard("w", each, 1.0)
    assert listed(table) == ["3", "4"]
    assert (table.out_of_order, table.incomplete) == (2, 1)


def test_a_whole_heartbeat_gives_up_the_parts_of_an_older_one() -> None:
    table = HeartbeatTable()
    first, second = parts(1, ["1"], ["2"])
    table.heard("w", first, 1.0)
    table.heard(
        "w", Heartbeat(events_processed=0, pipelines_running=0, incarnation="i1", seq=2, pipelines=[]), 2.0
    )
    table.heard("w", second, 3.0)
    assert listed(table) == [] and not table._parts


def test_parts_that_are_none_say_only_that_somebody_lives() -> None:
    table = HeartbeatTable()
    part = HeartbeatPart(number=5, of=2, pipelines=[])
    for seq, each in ((1, part), (None, HeartbeatPart(number=0, of=2, pipelines=[]))):
        beat = Heartbeat(events_processed=0, pipelines_running=3, incarnation="i1", seq=seq, part=each)
        table.heard("w", beat, 1.0)
    assert listed(table) is None and table.incomplete == 2 and not table._parts


def test_of_strangers_no_parts_are_kept() -> None:
    table = HeartbeatTable()
    for each in parts(1, ["1"], ["2"]):
        table.heard("w", each, 1.0, member=False)
    assert listed(table) is None and not table._parts
    table.forget("w")


def test_parts_go_with_the_worker() -> None:
    table = HeartbeatTable()
    table.heard("w", parts(1, ["1"], ["2"])[0], 1.0)
    table.forget("w")
    assert not table._parts


@given(st.integers(1, 5), st.integers(2, 6), st.floats(0, 0.5), st.integers(0, 2**32))
def test_whatever_is_lost_doubled_or_reordered_the_list_is_that_of_some_whole_heartbeat(
    beats: int, of: int, lost: float, seed: int
) -> None:
    rng = random.Random(seed)
    table = HeartbeatTable()
    said: list[list[str] | None] = [None]
    on_the_way: list[Heartbeat] = []
    for seq in range(1, beats + 1):
        shares = [
            [str(seq * 100 + number * 10 + each) for each in range(rng.randrange(3))] for number in range(of)
        ]
        said.append([name for share in shares for name in share])
        for each in parts(seq, *shares):
            on_the_way += [each] * (0 if rng.random() < lost else rng.choice((1, 1, 2)))
    for at in range(len(on_the_way) - 1):
        if rng.random() < 0.3:
            on_the_way[at : at + 2] = reversed(on_the_way[at : at + 2])
    newest = -1
    for each in on_the_way:
        table.heard("w", each, 1.0)
        found = listed(table)
        later = [number for number, one in enumerate(said) if one == found and number >= newest]
        assert later, "it is what was said, and never goes back"
        newest = later[0]  # of several that say the same, the earliest it may be
    assert len(table._parts) <= 1


@pytest.mark.parametrize("gone", [False, True])
async def test_the_leader_takes_a_copy_for_gone_only_when_whole_heartbeats_do_not_list_it(gone: bool) -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p", "q")
    await stage.settle()
    listed_by = [[stage.copy("g", "p")], [stage.copy("g", "q")]]
    epoch = stage.placed("g", "q").epoch
    seq = 0

    def beat(shares: list[list[RunningPipeline]], *numbers: int) -> None:
        nonlocal seq
        seq += 1
        for number in numbers:
            part = HeartbeatPart(number=number, of=len(shares), pipelines=shares[number])
            stage.table.heard(
                "w1",
                Heartbeat(events_processed=0, pipelines_running=2, incarnation="i1", seq=seq, part=part),
                stage.time,
            )

    for number in range(12):
        stage.time += 0.25
        beat(listed_by, *((0, 1) if number == 0 else (0,)))
        stage.loop.step()
        await stage.quiet()
    assert stage.placed("g", "q").epoch == epoch and stage.placed("g", "q").phase is Phase.RUNNING
    for _ in range(4):
        stage.time += 0.25
        beat([listed_by[0], [] if gone else listed_by[1]], 0, 1)
        stage.loop.step()
        await stage.quiet()
    assert (stage.placed("g", "q").epoch > epoch) is gone


async def test_one_answer_for_all_parts_and_no_more_directives_than_a_message_holds() -> None:
    stage = Stage()
    await stage.join("w1")
    ears = Ears(stage)
    strays = [
        RunningPipeline(pipeline_id=f"s-{n}", group="gone", name=f"p{n}", epoch=1) for n in range(3_000)
    ]
    answers = []
    for number in range(MAX_PARTS):
        share = strays[number::MAX_PARTS]
        part = HeartbeatPart(number=number, of=MAX_PARTS, pipelines=share)
        beat = Heartbeat(events_processed=0, pipelines_running=3_000, incarnation="i1", seq=1, part=part)
        ears.listener.hear("w1", beat)
        answers.append(ears.listener.answer("w1", beat))
    assert answers[0] is not None and answers[0].directives is None, "nothing is known of its copies yet"
    assert answers[1:] == [None] * (MAX_PARTS - 1)
    ack = await ears.hear(*strays)
    assert ack is not None and len(ack.directives or ()) == 1_000
