"""When checkpoints are taken, what happens without a store, and from what a copy begins."""

import asyncio
import time
from typing import Any

import pytest

from proto_schemas.errors import WireError
from proto_schemas.messages.membership import RunningPipeline
from tests.support.poll import until
from vpl import compile_source
from worker import checkpointer as module
from worker import checkpoints as checkpoints_of_state
from worker import cut as cuts
from worker.checkpointer import Checkpointer
from worker.connectors.registry import ConnectorRegistry
from worker.inputs import Inputs
from worker.lease import Lease, Permit
from worker.pipeline import Pipeline, State
from worker.safety import Safety
from worker.store.archive import Archive
from worker.store.base import Fenced, Place
from worker.store.memory import MemoryStore

SUM = "stream Sum = In.partition_by(k).window(3).aggregate(total: sum(n)).emit(total: total)"
PASS = "stream Out = In.emit(n: n)"
PLACE = Place("g", "p")


def pipeline(epoch: int = 1, source: str = SUM, *, life: int = 1, secs: float | None = None) -> Pipeline:
    """A copy that hears nothing but what a test gives it."""
    program, connectors = compile_source(source), ConnectorRegistry.from_configs({})
    return Pipeline(
        RunningPipeline(pipeline_id=f"p-{epoch}", group="g", name="p", epoch=epoch),
        program,
        connectors,
        Inputs(None, connectors, program.sources, ()),
        None,
        Permit(Lease()),
        life=life,
        checkpoint_secs=secs,
    )


def event(copy: Pipeline, n: int, k: str = "a") -> list[int]:
    outputs = copy.process("In", {"n": n, "k": k}, 1_000, 1_000)
    return [fields["total"] for _, _, fields, _ in outputs or () if "total" in fields]


def taking(
    store: MemoryStore, *copies: Pipeline, interval: float = 0.01, wait: float = 0.05, required: bool = False
) -> Checkpointer:
    return Checkpointer(Archive(store), lambda: list(copies), interval=interval, wait=wait, required=required)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.005)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(module, "ASK_AGAIN", (0.005, 0.01))


class Running:
    """A checkpointer at work during a block."""

    def __init__(self, checkpoints: Checkpointer) -> None:
        self._checkpoints = checkpoints

    async def __aenter__(self) -> Checkpointer:
        self._task = asyncio.create_task(self._checkpoints.run())
        return self._checkpoints

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_only_what_has_changed_is_written_again() -> None:
    store, copy = MemoryStore(), pipeline()
    async with Running(taking(store, copy)) as checkpoints:
        event(copy, 1)
        assert copy.loss_window(time.monotonic()) > 0
        await until(lambda: copy.loss_window(time.monotonic()) == 0, what="it is safe")
        asked = len(store.calls)
        for _ in range(20):
            await asyncio.sleep(module.LOOK)
        assert len(store.calls) == asked and checkpoints.counts["written"] == 1
        event(copy, 2)
        await until(lambda: checkpoints.counts["written"] == 2, what="the second")


@pytest.mark.parametrize(
    ("copy", "why"),
    [
        (pipeline(source=PASS), "it has no state"),
        (pipeline(secs=0), "it is told not to"),
    ],
)
async def test_nothing_is_written_by_itself_of(copy: Pipeline, why: str) -> None:
    store, other = MemoryStore(), pipeline(2)
    async with Running(taking(store, copy, other)) as checkpoints:
        event(copy, 1)
        event(other, 1)
        await until(lambda: checkpoints.counts["written"], what="the other one's")
        assert checkpoints.counts["written"] == 1, why


async def test_a_copy_that_holds_writes_nothing_by_itself() -> None:
    store, copy, other = MemoryStore(), pipeline(), pipeline(2)
    event(copy, 1)
    event(other, 1)
    copy.state = State.HELD
    async with Running(taking(store, copy, other)):
        await until(lambda: other.loss_window(time.monotonic()) == 0, what="the other one's")
    assert [each.epoch for each in store.manifests[PLACE][0].checkpoints] == [2]


async def test_a_store_that_is_down_is_asked_rarely_and_believed_when_it_is_back() -> None:
    store, copies = MemoryStore(), [pipeline(), pipeline(2)]
    store.down = "no disk"
    for copy in copies:
        event(copy, 1)
    async with Running(taking(store, *copies)) as checkpoints:
        await until(lambda: checkpoints.counts["failed"] >= 3, what="it fails")
        health = checkpoints.health()
        assert health["error"] == "no disk" and health["failed"] >= 3
        assert event(copies[0], 2) == [], "events go on"
        assert event(copies[0], 3) == [6]
        store.down = ""
        await until(lambda: checkpoints.counts["written"], what="it is written again")
        assert checkpoints.health()["error"] is None


async def test_a_copy_that_was_fenced_off_writes_once_in_vain_and_no_more() -> None:
    store, old, new = MemoryStore(), pipeline(1), pipeline(2)
    await taking(store).recover(new)
    event(old, 1)
    async with Running(taking(store, old)) as checkpoints:
        await until(lambda: old.safety.fenced, what="it finds out")
        asked = len(store.calls)
        for _ in range(20):
            await asyncio.sleep(module.LOOK)
        assert len(store.calls) == asked and checkpoints.counts["fenced"] == 1


async def test_the_first_checkpoints_of_many_copies_are_spread_over_the_interval() -> None:
    checkpoints = taking(MemoryStore(), interval=10)
    copies = [pipeline(number) for number in range(1, 201)]
    for copy in copies:
        event(copy, 1)
        checkpoints._is_due(copy, 0.0)
    dues = [copy.safety.due or 0 for copy in copies]
    assert all(0 <= due <= 10 for due in dues)
    assert all(sum(low <= due < low + 2.5 for due in dues) > 20 for low in (0, 2.5, 5, 7.5))


async def test_a_new_copy_counts_on_and_says_how_old_its_state_is() -> None:
    store, old, new = MemoryStore(), pipeline(1), pipeline(2)
    event(old, 1)
    event(old, 10)
    await taking(store).save(old)
    checkpoints = taking(store)
    assert await checkpoints.recover(new) is not None
    assert new.begun.startswith("went on from a checkpoint 0.") and checkpoints.restored == 1
    assert new.loss_window(time.monotonic()) == 0
    assert event(new, 100) == [111]


async def test_the_first_copy_of_a_pipeline_has_nothing_to_say() -> None:
    checkpoints, copy = taking(MemoryStore()), pipeline()
    assert await checkpoints.recover(copy) is None
    assert copy.begun == "" and checkpoints.empty == 0


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("nothing", "no checkpoint had been taken"),
        ("another", "its last checkpoint is of another program"),
        ("damaged", "none of its checkpoints can be read"),
    ],
)
async def test_a_copy_that_begins_empty_says_why(before: str, said: str) -> None:
    store, old = MemoryStore(), pipeline(1, PASS + "\n" + SUM if before == "another" else SUM)
    await taking(store).recover(old)
    if before != "nothing":
        event(old, 1)
        await taking(store).save(old)
    if before == "damaged":
        store.chunks.clear()
    checkpoints, new = taking(store), pipeline(2)
    assert await checkpoints.recover(new) is None
    assert new.begun == f"began without state: {said}" and checkpoints.empty == 1
    assert new.running().reason == new.begun, "heartbeats tell it"


async def test_a_group_made_again_begins_with_nothing() -> None:
    store, old = MemoryStore(), pipeline(1)
    event(old, 1)
    await taking(store).save(old)
    new = pipeline(2, life=2)
    assert await taking(store).recover(new) is None
    assert new.begun == ""


async def test_what_was_saved_under_another_number_of_instances_is_never_gone_on_from() -> None:
    """`life` is another one once they are more or fewer: see `Placement.since` of the coordinator."""
    store, old, divided = MemoryStore(), pipeline(1, life=1000), pipeline(2, life=1002)
    event(old, 1)
    await taking(store).save(old)
    event(divided, 5)
    lost = pipeline(3, life=1002)
    assert await taking(store).recover(lost) is None, "the new ones had not saved anything yet"
    await taking(store).save(lost)
    with pytest.raises(Fenced):
        await taking(store).save(old)
    back = pipeline(4, life=1003)
    assert await taking(store).recover(back) is None, "as many as at first, and not of the first ones' state"


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_a_copy_waits_for_its_store_only_so_long(how: str) -> None:
    store, copy = MemoryStore(), pipeline()
    if how == "down":
        store.down = "no disk"
    else:
        store.hangs.clear()
    checkpoints = taking(store, wait=0.2)
    assert await checkpoints.recover(copy) is None
    assert "began without state" in copy.begun
    asked = len(store.calls)
    assert await checkpoints.recover(pipeline(2)) is None
    assert len(store.calls) - asked <= 3, "what one has waited for the next one need not"


async def test_a_store_that_comes_back_in_time_is_waited_for() -> None:
    store, old, new = MemoryStore(), pipeline(1), pipeline(2)
    event(old, 1)
    await taking(store).save(old)
    store.down = "restarting"
    recovering = asyncio.create_task(taking(store, wait=20.0).recover(new))
    await until(lambda: store.calls.count("manifest") >= 5, what="it asks again")
    store.down = ""
    assert await recovering is not None and "went on" in new.begun


async def test_where_state_is_required_the_deploy_is_refused_for_now() -> None:
    store, copy = MemoryStore(), pipeline()
    store.down = "no disk"
    with pytest.raises(WireError, match="waits for its checkpoint: no disk") as refused:
        await taking(store, required=True).recover(copy)
    assert refused.value.retryable and refused.value.code == "timeout"


async def test_a_copy_older_than_the_owner_is_refused_with_the_epoch_that_was_seen() -> None:
    store = MemoryStore()
    await taking(store).recover(pipeline(9))
    with pytest.raises(WireError, match="older than epoch 9,") as refused:
        await taking(store).recover(pipeline(8))
    assert refused.value.code == "stale_epoch"


async def test_a_state_copied_by_a_child_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    store, old, new = MemoryStore(), pipeline(1), pipeline(2)
    for number in range(3_000):
        event(old, number, f"key-{number}")
    monkeypatch.setattr(cuts, "SMALL", 100)
    saving = asyncio.create_task(taking(store).save(old))
    await until(lambda: "manifest" in store.calls, what="the child is there")
    event(old, 1, "key-7")
    await saving
    assert old.loss_window(time.monotonic()) > 0, "that event came after the cut"
    await taking(store).recover(new)
    assert event(new, 2, "key-7") == [] and event(new, 3, "key-7") == [12]


async def test_a_child_that_dies_costs_its_checkpoint_and_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    store, copy = MemoryStore(), pipeline()
    event(copy, 1)

    def broken(*_: Any) -> Any:
        yield b"half"
        raise MemoryError

    monkeypatch.setattr(cuts, "SMALL", 0)
    monkeypatch.setattr(checkpoints_of_state, "lines", broken)
    checkpoints = taking(store)
    with pytest.raises(cuts.CutFailed, match="ended with 1"):
        await checkpoints.save(copy)
    assert checkpoints.counts["failed"] == 1 and not store.manifests[PLACE][0].checkpoints
    assert event(copy, 2) == []


def test_the_loss_window_begins_when_the_first_unsaved_change_may_have_come() -> None:
    safety = Safety(saved_at=0.0)
    assert not safety.look((0, 0), 5.0)
    assert safety.look((1, 0), 8.0) and safety.saved_at == 5.0
    safety.keep((1, 0), 7.0)
    assert safety.look((1, 1), 9.0) and safety.saved_at == 7.0
