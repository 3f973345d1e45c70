"""What workers say they run, held against what they should run.

Heartbeats of our workers list their copies (group, name, epoch). An epoch is wanted on at most one worker,
so:

- a copy of the current epoch, on a ready worker: it runs, whether or not we heard the answer to its deploy
  (adopted);
- a copy of the current epoch that says it failed: the placement failed, and is tried again after a pause
  that grows each time (`relapses`);
- any other copy, also of a version that its next one will not have: stale, it is ended (by the heartbeat's
  answer and by a command);
- a placement that runs, and two heartbeats in a row that do not list it: it is gone, and placed again. Two,
  because one that this leader did not deploy may have been deployed after the first was sent; of the others
  the worker said which heartbeat lists them first, and none before that counts;
- a copy that holds what comes to it, where no migration is under way: a move was given up, and it goes on;
- a copy in another line than its placement's, likewise: a move was given up, the line is left to its target,
  and the copy, which could not be told then, begins the new one;
- the copy a migration makes is wanted on its target, though it is not the placement yet;
- strays (see `coordinator.state.model`) on workers that can be asked: ended;
- an epoch above all we ever gave: the copy outlived the logs of its coordinators, and our counter is raised.

A copy without a group or epoch was not deployed by a coordinator of ours and is left alone. Seed workers
list nothing: for them there are only the strays. Heartbeats of another incarnation than the registered one
tell nothing here.

Most workers run exactly what they should. Once that was found, it stays so until the list in their heartbeats
or what they hold by the state changes, and until then neither a pass nor a heartbeat compares the two again.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

from coordinator.controllers.actions import Actions
from coordinator.controllers.deployment import Deployment
from coordinator.controllers.relapses import Relapses
from coordinator.controllers.target import Target
from coordinator.heartbeats import Heard, HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.commands import MAX_REASON, ReportRunning
from coordinator.state.members import newest_epoch
from coordinator.state.model import State
from coordinator.state.next_version import line_for
from coordinator.state.records import Phase, Placement, Worker, WorkerStatus
from proto_schemas.messages.membership import RunningPipeline

UNTIL_HEARD = 1.0
"""Seconds after a copy was ended in which nothing is done because the last heartbeat still lists it."""
_ADOPTABLE = frozenset({Phase.PENDING, Phase.DEPLOYING, Phase.RUNNING})
_HOLDS = frozenset({"held", "handed_over"})
_ATTENTION = _HOLDS | {"failed"}


class _Settled(NamedTuple):
    """When a worker ran what it should: nothing is to be compared again while all three are the same."""

    session: int
    pipelines: Mapping[str, RunningPipeline]
    mark: object


@dataclass(frozen=True, slots=True)
class Findings:
    """What one worker's last heartbeat means. `astray`: copies to be told to go on in their line."""

    adopt: tuple[tuple[Target, RunningPipeline], ...] = ()
    failed: tuple[tuple[Target, str], ...] = ()
    stale: tuple[tuple[Target, RunningPipeline], ...] = ()
    missing: tuple[Target, ...] = ()
    astray: tuple[tuple[Target, RunningPipeline], ...] = ()


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What migrations and divisions mean here: what moves, and by worker the epochs that come to it."""

    moving: Set[tuple[str, str]]
    coming: Mapping[str, Set[int]]

    @classmethod
    def of(cls, state: State) -> Self:
        """As they are now."""
        coming: dict[str, set[int]] = {}
        for move in state.migrations.values():
            coming.setdefault(move.to_worker, set()).add(move.to_epoch)
        moving = {(move.group, move.pipeline) for move in state.migrations.values()}
        for group in state.dividing:
            if group.division is not None:
                moving |= {(group.spec.name, each.instance) for each in group.division.old}
                for each in group.division.new:
                    coming.setdefault(each.worker, set()).add(each.epoch)
        return cls(moving, coming)


def examine(
    state: State,
    worker: Worker,
    heard: Heard,
    placed: Iterable[tuple[str, str, Placement]] = (),
    under_way: UnderWay | None = None,
    expected: Set[str] = frozenset(),
) -> Findings:
    """Compare; pure. `missing` is what of `placed` this heartbeat does not list, but for the copies that are
    `expected` in a later one: wait for the next ones."""
    if heard.pipelines is None or heard.incarnation != worker.incarnation:
        return Findings()
    adopt, failed, stale, astray = [], [], [], []
    under_way = under_way or UnderWay.of(state)
    coming, moving = under_way.coming.get(worker.id, frozenset()), under_way.moving
    listed: set[Target] = set()
    for copy in heard.pipelines.values():
        target = Target.of(state, copy.group, copy.name, copy.epoch)
        placement = state.placement(copy.group, copy.name)
        if not copy.group or not copy.epoch or copy.epoch in coming:
            continue
        if placement is None or placement.epoch != copy.epoch or not _wanted(state, placement, worker, copy):
            stale.append((target, copy))
            continue
        listed.add(target)
        if placement.phase is Phase.REMOVING:
            continue
        if copy.state == "failed":
            failed.append((target, copy.reason or f"worker {worker.id} says it failed"))
        elif placement.phase is not Phase.RUNNING or placement.pipeline_id != copy.pipeline_id:
            adopt.append((target, copy))
        elif (copy.group, copy.name) not in moving and (
            copy.state in _HOLDS or _is_in_another_line(state, placement, copy)
        ):
            astray.append((target, copy))
    missing = tuple(
        target
        for group, pipeline, placement in placed
        if placement.phase is Phase.RUNNING
        and placement.pipeline_id not in expected
        and (target := Target.of(state, group, pipeline, placement.epoch)) not in listed
    )
    return Findings(tuple(adopt), tuple(failed), tuple(stale), missing, tuple(astray))


def _is_in_another_line(state: State, placement: Placement, copy: RunningPipeline) -> bool:
    """Of copies that have a line of their own, and tell it."""
    if copy.queue in (0, placement.queue):
        return False
    group = state.groups[copy.group]
    found = group.instance(copy.name)
    shares = found is None or (found.pipeline.replicas > 1 and found.pipeline.partition_key is None)
    return not shares and line_for(group, copy.name) is None


def settled(worker: Worker, heard: Heard, placed: Iterable[tuple[str, str, Placement]]) -> bool:
    """Whether the worker runs exactly what it holds, each copy under the very id that the state knows: then
    `examine` finds nothing, whatever else changes."""
    if heard.pipelines is None or heard.incarnation != worker.incarnation:
        return False
    should = {
        placement.pipeline_id: (group, pipeline, placement)
        for group, pipeline, placement in placed
        if placement.phase is Phase.RUNNING
    }
    return len(should) == len(heard.pipelines) and all(
        copy.state not in _ATTENTION and _is_right(copy, should.get(copy.pipeline_id))
        for copy in heard.pipelines.values()
    )


def _is_right(copy: RunningPipeline, wanted: tuple[str, str, Placement] | None) -> bool:
    if wanted is None:
        return False
    group, pipeline, placement = wanted
    identity = (copy.group, copy.name, copy.epoch) == (group, pipeline, placement.epoch)
    return identity and copy.queue in (0, placement.queue)


def _wanted(state: State, placement: Placement, worker: Worker, copy: RunningPipeline) -> bool:
    """Whether a copy of the current epoch may stay on this worker."""
    if placement.phase is Phase.REMOVING:
        return placement.worker_id == worker.id
    if placement.worker_id is None:
        stays = worker.status is WorkerStatus.READY and state.draining(worker.id) is None
        return stays and placement.phase in _ADOPTABLE and not _is_replaced(state, copy)
    return placement.worker_id == worker.id


def _is_replaced(state: State, copy: RunningPipeline) -> bool:
    """Whether the next copy will be of another version of the group."""
    group = state.groups[copy.group]
    return group.at(copy.name) is not group.at(copy.name, new=True)


class Convergence:
    """The controller; `step` is one pass. `compared`: lists of copies held against the state."""

    def __init__(
        self,
        ledger: Ledger,
        deployment: Deployment,
        table: HeartbeatTable,
        actions: Actions,
        sweeps: Actions,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._do = deployment
        self._table = table
        self._actions = actions
        self._sweeps = sweeps
        self._clock = clock
        self._relapses = Relapses()
        self._missed: dict[Target, int] = {}
        self._settled: dict[str, _Settled] = {}
        self.compared = 0

    def forget(self) -> None:
        """Somebody else leads now."""
        self._missed.clear()
        self._relapses.forget()
        self._settled.clear()

    def step(self) -> None:
        """Act on every worker's last heartbeat, then on the strays."""
        missing: dict[Target, int] = {}
        newest = 0
        for worker, heard, findings in self._findings():
            newest = max(newest, newest_epoch((heard.pipelines or {}).values()))
            for target, copy in findings.adopt:
                self._start(target, partial(self._adopt, worker, target, copy))
            for target, reason in findings.failed:
                self._start(target, partial(self._fail, target, reason))
            for target, copy in findings.stale:
                self._end(worker, target, copy)
            for target, copy in findings.astray:
                resume = partial(self._do.resume, worker.id, target, copy.pipeline_id)
                self._once("resume", worker, copy, resume)
            for target in findings.missing:
                missing[target] = self._missed.get(target, heard.count)
                if heard.count >= missing[target] + 2:
                    reason = f"worker {worker.id} no longer reports it"
                    self._start(target, partial(self._do.displace, target, reason))
        self._missed = missing
        if newest > self._ledger.state.epochs:
            self._sweeps.start(("epochs",), partial(self._do.raise_epochs, newest))
        self._clear_strays()

    def stale_copies(self, worker_id: str) -> list[RunningPipeline]:
        """What the worker's last heartbeat lists and nobody wants; for the answer to that heartbeat."""
        worker, heard = self._ledger.state.workers.get(worker_id), self._table.get(worker_id)
        if worker is None or heard is None or self._is_settled(worker, heard):
            return []
        return [copy for _, copy in examine(self._ledger.state, worker, heard).stale]

    def _findings(self) -> Iterator[tuple[Worker, Heard, Findings]]:
        state = self._ledger.state
        under_way = UnderWay.of(state)
        if len(self._settled) > len(state.workers):
            self._settled = {name: each for name, each in self._settled.items() if name in state.workers}
        for worker in state.workers.values():
            heard = self._table.get(worker.id)
            if heard is None or heard.pipelines is None or worker.status is WorkerStatus.UNHEALTHY:
                continue
            if self._is_settled(worker, heard):
                continue
            self.compared += 1
            placed = state.placed_on(worker.id)
            if settled(worker, heard, placed):
                mark = state.mark_of(worker.id)
                self._settled[worker.id] = _Settled(worker.session, heard.pipelines, mark)
            else:
                expected = self._table.expected(worker.id)
                yield worker, heard, examine(state, worker, heard, placed, under_way, expected)

    def _is_settled(self, worker: Worker, heard: Heard) -> bool:
        """Whether it was found to run what it should, and nothing has changed since."""
        last = self._settled.get(worker.id)
        return (
            last is not None
            and last.pipelines is heard.pipelines
            and last.session == worker.session
            and last.mark is self._ledger.state.mark_of(worker.id)
        )

    def _start(self, target: Target, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._actions.start(target.key, action)

    async def _adopt(self, worker: Worker, target: Target, copy: RunningPipeline) -> None:
        await self._ledger.propose(
            ReportRunning(
                by="convergence",
                group=target.group,
                pipeline=target.pipeline,
                epoch=target.epoch,
                worker_id=worker.id,
                session=worker.session,
                pipeline_id=copy.pipeline_id,
                reason=(copy.reason or "")[:MAX_REASON],
            )
        )

    async def _fail(self, target: Target, reason: str) -> None:
        times, pause = self._relapses.note(target.key, self._clock())
        if times > 1:
            again = f" (failed {times} times in a row: tried again in about {pause:g} s)"
            reason = reason[: MAX_REASON - len(again)] + again
        await self._do.fail(target, reason)
        self._actions.hold(target.key, pause)

    def _end(self, worker: Worker, target: Target, copy: RunningPipeline) -> None:
        self._once(
            "copy", worker, copy, partial(self._do.endings.undeploy, worker.id, target, copy.pipeline_id)
        )

    def _once(
        self,
        what: str,
        worker: Worker,
        copy: RunningPipeline,
        action: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Do it, and then not again before another heartbeat may tell that it is done."""
        key = (what, worker.id, copy.pipeline_id)

        async def do() -> None:
            await action()
            self._sweeps.hold(key, UNTIL_HEARD)

        self._sweeps.start(key, do)

    def _clear_strays(self) -> None:
        state = self._ledger.state
        for stray in list(state.strays.values()):
            worker = state.workers.get(stray.worker_id)
            placement = state.placement(stray.group, stray.pipeline)
            given_up = placement is None or placement.epoch != stray.epoch
            if given_up and (worker is None or worker.status is not WorkerStatus.UNHEALTHY):
                key = ("copy", stray.worker_id, stray.pipeline_id)
                failures = self._sweeps.failures(key)
                self._sweeps.start(
                    key,
                    partial(self._do.endings.clear_stray, stray, known=worker is not None, failures=failures),
                )
