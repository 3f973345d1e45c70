"""A stage whose workers can move pipelines; what they hold decides what their heartbeats say."""

import random
from typing import Any

from coordinator.state.commands import StartDrain, StartMigration
from coordinator.state.records import Cause, Migration
from coordinator.state.results import Started
from coordinator.worker_commands import WorkerCommands
from proto_schemas.messages.membership import Heartbeat
from proto_schemas.subjects import Subjects
from tests.unit.coordinator.sim_workers import SimWorkers
from tests.unit.coordinator.stage import Stage


class Moving(Stage):
    """A stage with workers that can move pipelines."""

    def __init__(self, rng: random.Random | None = None) -> None:
        super().__init__()
        self.leaving: set[str] = set()
        self.play(SimWorkers(rng))

    def play(self, workers: SimWorkers) -> None:
        """Have these workers answer."""
        self.sim = workers
        self.loop = type(self.loop)(
            self.ledger,
            WorkerCommands(self.sim, Subjects()),
            self.table,
            clock=lambda: self.time,
            hears=lambda: self.hears,
            heartbeat_timeout=3.0,
            heartbeat_interval=1.0,
        )

    @property
    def in_flight(self) -> int:
        return super().in_flight + self.loop.jobs.in_flight

    def say_alive(self, name: str) -> None:
        """A heartbeat that lists what really runs there."""
        seq = self._seq[name] = self._seq.get(name, 0) + 1
        copies = self.sim.listed(name)
        heartbeat = Heartbeat(
            events_processed=0,
            pipelines_running=len(copies),
            incarnation="i1",
            seq=seq,
            pipelines=copies,
            draining=name in self.leaving,
        )
        self.table.heard(name, heartbeat, self.time)

    async def pass_time(self, seconds: float) -> None:
        """Time, with heartbeats of all that are not frozen."""
        for _ in range(max(int(seconds / 0.25), 1)):
            self.time += 0.25
            for name in list(self.machine.state.workers):
                if name not in self.sim.frozen:
                    self.say_alive(name)
            await self.settle()

    async def migrate(self, pipeline: str = "p", to: str = "w2") -> str:
        result = await self.ledger.propose(
            StartMigration(by="test", group="g", pipeline=pipeline, to_worker=to, cause=Cause.MANUAL, epoch=0)
        )
        assert isinstance(result, Started)
        return result.id

    async def drain(self, worker: str = "w1", **fields: Any) -> str:
        result = await self.ledger.propose(
            StartDrain(by="test", worker_id=worker, cause=Cause.MANUAL, **fields)
        )
        assert isinstance(result, Started)
        return result.id

    def move(self, move_id: str) -> Migration:
        state = self.machine.state
        return state.migrations.get(move_id) or state.ended_migrations[move_id]

    def new_leader(self) -> None:
        """What a leader has in its head is gone, and what it had under way is cut off."""
        self.loop.moves.forget()
        self.loop.divisions.forget()
        self.loop.drains.forget()
        self.loop.updates.forget()
        self.loop.placement.forget()
        self.loop.convergence.forget()
        for actions in self.loop._all_actions:
            actions.forget()


async def running(*pipelines: str, workers: tuple[str, ...] = ("w1", "w2"), room: int = 10) -> Moving:
    """A stage whose group `g` runs on the first worker."""
    stage = Moving()
    await stage.join(*workers, room=room)
    await stage.create("g", *(pipelines or ("p",)), worker_affinity=workers[0])
    await stage.pass_time(1)
    assert {stage.placed("g", each).worker_id for each in pipelines or ("p",)} == {workers[0]}
    stage.sim.sent.clear()
    return stage


def only_live(stage: Moving, pipeline: str = "p") -> tuple[str, str]:
    """(worker, memory) of the one copy that is live; the state says the same."""
    ((worker, copy),) = stage.sim.live("g", pipeline)
    placement = stage.placed("g", pipeline)
    assert (placement.worker_id, placement.epoch, placement.pipeline_id) == (worker, copy.epoch, copy.id)
    assert copy.line == f"g.{pipeline}.{placement.queue}"
    return worker, copy.memory
