"""After a restore the controllers bring the workers to the new state, by looking, as after anything else."""

import google_crc32c

from coordinator.state.commands import BeginRestore, CommitRestore, DeleteGroup, PutPart, RaiseEpochs
from coordinator.state.records import Phase, WorkerStatus
from coordinator.state.restore import PART_BYTES
from coordinator.state.snapshot import frames
from tests.unit.coordinator.stage import Stage


async def restore(stage: Stage, data: bytes) -> None:
    about = {"cluster": "x", "taken_at": 1, "last_index": 1, "key": "k"}
    await stage.say(BeginRestore, upload="u", size=len(data), crc=google_crc32c.value(data), **about)
    for number, at in enumerate(range(0, len(data), PART_BYTES)):
        await stage.say(PutPart, upload="u", number=number, data=data[at : at + PART_BYTES])
    await stage.say(CommitRestore, upload="u", request_id="k")


def saved(stage: Stage) -> bytes:
    return b"".join(frames(stage.machine.state))


async def test_what_the_copy_lacks_is_ended_and_what_it_has_is_placed_above_every_epoch() -> None:
    stage = Stage()
    await stage.join("ours")
    await stage.join("seed", incarnation=None)
    await stage.create("a", "p", "q")
    await stage.settle()
    await stage.create("b", "p", "q")
    await stage.settle()
    data = saved(stage)
    await stage.say(DeleteGroup, group="a")
    await stage.settle()
    await stage.create("c", "p", "q")
    await stage.settle()
    await stage.say(RaiseEpochs, epoch=100)
    b = {name: stage.placed("b", name) for name in ("p", "q")}
    c = {(stage.placed("c", name).worker_id, stage.placed("c", name).pipeline_id) for name in ("p", "q")}
    assert {worker for worker, _ in c} == {"ours", "seed"}
    stage.workers.sent.clear()
    await restore(stage, data)
    stage.beat("ours", *stage.truth("ours"))
    stage.beat("seed", incarnation=None)
    await stage.settle()
    assert set(stage.workers.undeploys()) == c, "and nothing else"
    deploys = stage.workers.deploys()
    assert {(each.group, each.name) for _, each in deploys} == {("a", "p"), ("a", "q")} and len(deploys) == 2
    assert all(each.epoch is not None and each.epoch > 100 for _, each in deploys)
    assert {name: stage.placed("b", name) for name in ("p", "q")} == b
    assert {one.phase for _, _, one in stage.machine.state.each_placement()} == {Phase.RUNNING}
    assert not stage.machine.state.strays
    stage.workers.sent.clear()
    for _ in range(40):
        stage.beat("seed", incarnation=None)
        await stage.later(0.25, "ours")
    assert not stage.workers.sent, "it has come to rest"


async def test_a_worker_only_the_copy_knows_takes_pipelines_once_it_is_heard_and_none_before() -> None:
    former = Stage()
    await former.join("seed", incarnation=None)
    await former.create("a", "p")
    await former.settle()
    stage = Stage()
    await restore(stage, saved(former))
    await stage.settle()
    assert stage.placed("a", "p").phase is Phase.PENDING and not stage.workers.sent
    stage.beat("seed", incarnation=None)
    await stage.settle()
    assert stage.machine.state.workers["seed"].status is WorkerStatus.READY
    assert stage.placed("a", "p").phase is Phase.RUNNING
    assert stage.placed("a", "p").epoch > former.placed("a", "p").epoch
