"""A calm: all faults end, and the cluster must come to what was asked of it, in bounded time.

What is compared: the acknowledged writes, the state as a coordinator tells it, and the copies as the workers
themselves tell them. All three must agree, at once and twice in a row; then nothing may be under way any more
(migrations, updates, drains), events must pass through every pipeline once, and the coordinators must hold
the same.

What the bound consists of, with the default settings, from the moment the last fault ends:

- the start of what was killed, `START` (Python and its imports, many processes on few cores at once);
- or, where workers stay dead, their detection: `heartbeat_timeout` after a new leader began to listen (3 s),
  and before that its election (0.3 to 1.2 s);
- the placement: two heartbeats (2 s), in which the last copy that is stale or missing is found, the longest
  pause after a failure (5 s, `controllers.actions`), and the deploy (some ms each).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proto_schemas.rest.base import API_BASE
from tests.chaos import groups
from tests.chaos.fleet import Copy, Fleet
from tests.chaos.groups import Spec
from tests.chaos.outputs import Load
from tests.chaos.stage import Stage
from tests.chaos.writes import Desired, Writes
from tests.support.linked import Cluster
from tests.support.node import Node

BOUND: Final = 20.0
"""Seconds from the end of the last fault to convergence."""
_GIVE_UP: Final = 75.0
_LOOK_EVERY: Final = 0.1
_SETTLED: Final = 30.0
_PASS_WITHIN: Final = 10.0
_NUMBERS: Final = 15
_STILL_COMING: Final = 25
"""A number may take as long to come out as it takes to send so many."""
_ENDED: Final = frozenset({"done", "rolled_back"})
View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the end of the last fault until all processes were ready, until the last write had its
    answer, and until all that should run did, and nothing else.
    """

    stay_dead: bool
    ready: float
    answered: float
    converged: float


def difference(desired: Desired, views: list[View], copies: list[Copy]) -> Iterator[str]:
    """What keeps the three from being the same; nothing when they are. Pure."""
    shown = {view["name"]: view for view in views}
    for name in sorted(desired.groups.keys() - shown.keys()):
        yield f"group {name} was acknowledged and is not there"
    for name in sorted(shown.keys() - desired.groups.keys()):
        yield f"group {name} ({shown[name]['status']}) is there and nobody asked for it"
    running = Counter((copy.group, copy.instance) for copy in copies)
    expected: set[tuple[str, str]] = set()
    for name in sorted(desired.groups.keys() & shown.keys()):
        spec = settled_spec(desired, shown[name])
        if spec is None:
            yield f"group {name} is of no version that was asked for, or on its way: {_update(shown[name])}"
            continue
        placements = {each["pipeline_name"]: each for each in shown[name]["placements"]}
        for instance in sorted(groups.instances(spec) ^ placements.keys()):
            yield f"{name}/{instance}: wanted {instance not in placements}, placed {instance in placements}"
        for instance in sorted(groups.instances(spec) & placements.keys()):
            expected.add((name, instance))
            yield from _of_instance(name, placements[instance], copies)
    for group, instance in sorted(running.keys() - expected):
        found = [str(copy) for copy in copies if (copy.group, copy.instance) == (group, instance)]
        if group not in desired.groups or group in shown:
            yield f"{group}/{instance} runs and should not: {found}"


def _of_instance(group: str, placement: View, copies: list[Copy]) -> Iterator[str]:
    name = placement["pipeline_name"]
    found = [copy for copy in copies if (copy.group, copy.instance) == (group, name)]
    said = (placement["worker_id"], placement["epoch"], placement["pipeline_id"])
    runs = [(copy.worker, copy.epoch, copy.id) for copy in found if copy.state == "running"]
    if placement["status"] != "running" or runs != [said] or len(found) != 1:
        state = f"{placement['status']} on {said[0]}, epoch {said[1]}, {placement['reason']}"
        copied = [f"{copy.worker} epoch {copy.epoch} {copy.state}" for copy in found]
        yield f"{group}/{name}: the state says {state}; workers say {copied or 'nothing'}"


def settled_spec(desired: Desired, view: View) -> Spec | None:
    """Which of the versions that were asked for a group is of; None while it is of none, or on its way. An
    update that only waits whether the new copies stay well has arrived.
    """
    update = view["update"]
    if update is not None and update["status"] not in _ENDED and update["done"] < update["instances"]:
        return None
    spec = desired.groups[view["name"]]
    back = update is not None and update["status"] == "rolled_back"
    asked: Spec
    for asked in [spec, *(desired.former[view["name"]] if back else ())]:
        if view["sources"] == {each["name"]: each["source"] for each in asked["pipelines"]}:
            return asked
    return None


def _update(view: View) -> str:
    update = view["update"]
    return f"{update['status']}, {update['reason']}" if update is not None else "no update"


@dataclass
class Calm:
    """See the module. `complaints`: what did not hold; `times` of each calm; `rollbacks`: updates that went
    back; `passed`: seconds from the end of the last fault until events passed through all again."""

    cluster: Cluster
    fleet: Fleet
    stage: Stage
    writes: Writes
    load: Load
    tell: Callable[[str], None]
    times: list[Times] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    rollbacks: list[str] = field(default_factory=list)
    passed: list[float] = field(default_factory=list)

    async def come(self, *, stay_dead: bool) -> None:
        """Have one; afterwards all processes run."""
        await self.stage.lift(restart=not stay_dead)
        began = time.monotonic()
        self.tell(f"calm{', the dead stay dead' if stay_dead else ''}")
        ready, answered, converged = await asyncio.gather(
            self._first(began, self._all_ready),
            self._first(began, self._all_answered),
            self._first(began, self._agree),
        )
        for what, seconds in (("ready", ready), ("answered", answered), ("converged", converged)):
            if seconds is None:
                left = await self._left()
                self.complaints.append(f"not {what} within {_GIVE_UP:.0f} s: {left}")
        if ready is not None and answered is not None and converged is not None:
            times = Times(stay_dead, ready, answered, converged)
            self.times.append(times)
            self.tell(f"converged after {converged:.1f} s (ready {ready:.1f}, answered {answered:.1f})")
            if converged > BOUND:
                self.complaints.append(f"converged after {converged:.1f} s: the bound is {BOUND:g} s")
            await self._check(began)
        self.fleet.heal(restart=True)
        if await self._first(time.monotonic(), self._all_ready) is None:
            self.complaints.append(f"workers not ready within {_GIVE_UP:.0f} s after they were started")

    async def _first(self, began: float, holds: "Callable[[], Any]") -> float | None:
        """Seconds since `began` until it holds, twice in a row; None when it does not in time."""
        since: float | None = None
        while (now := time.monotonic()) - began < _GIVE_UP:
            if not await holds():
                since = None
            elif since is not None:
                return since - began
            else:
                since = now
            await asyncio.sleep(_LOOK_EVERY)
        return None

    async def _all_ready(self) -> bool:
        ready = [await self.cluster.ask(node, "GET", "/readyz") for node in self.cluster.nodes]
        return all(one is not None and one.status == 200 for one in ready) and await self.fleet.all_ready()

    async def _all_answered(self) -> bool:
        return not self.writes.pending and not self.stage.busy

    async def _agree(self) -> bool:
        return await self._all_answered() and await self._differences() == []

    async def _differences(self) -> list[str]:
        views, copies = await self._views(), await self.fleet.copies()
        if views is None or copies is None:
            return ["somebody does not answer"]
        return list(difference(self.writes.desired, views, copies))

    async def _left(self) -> str:
        pending = [write.what for write in self.writes.pending.values()]
        return f"{await self._differences()}; without an answer: {pending}; under way: {self.stage.busy}"

    # -- what must hold then

    async def _check(self, began: float) -> None:
        """Everything else that must be so, once all that should run does."""
        for what, holds in (
            ("no update is under way", self._no_update),
            ("no migration is under way", self._no_migration),
            ("no drain is under way", self._no_drain),
            ("all coordinators hold the same placements", self._same_everywhere),
        ):
            if await self._first_within(_SETTLED, holds) is None:
                self.complaints.append(f"not within {_SETTLED:.0f} s: {what}")
        await self._events_pass(began)
        left = await self._differences()
        if left:
            self.complaints.append(f"it had converged, and did not stay so: {left}")
        views = await self._views()
        for view in views or ():
            spec = settled_spec(self.writes.desired, view)
            if spec is not None:
                if spec is not self.writes.desired.groups[view["name"]]:
                    self.rollbacks.append(f"{view['name']}: {_update(view)}")
                self.writes.desired.settle(view["name"], spec)

    async def _first_within(self, seconds: float, holds: "Callable[[], Any]") -> float | None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if await holds():
                return time.monotonic() - began
            await asyncio.sleep(_LOOK_EVERY)
        return None

    async def _no_update(self) -> bool:
        views = await self._views()
        updates = [view["update"] for view in views or () if view["update"] is not None]
        return views is not None and all(update["status"] in _ENDED for update in updates)

    async def _no_migration(self) -> bool:
        found = await self._get("/migrations?limit=1000")
        under_way = ("started", "held", "handed_over")
        return found is not None and not any(each["status"] in under_way for each in found["migrations"])

    async def _no_drain(self) -> bool:
        workers = await self._get("/workers?limit=1000")
        if workers is None:
            return False
        for worker in workers["workers"]:
            drain = await self._get(f"/workers/{worker['id']}/drain", missing={"status": "none"})
            if drain is None or drain["status"] == "active":
                return False
        return True

    async def _same_everywhere(self) -> bool:
        """Read from each coordinator alone, at the same index."""
        before = [await self.cluster.raft(node) for node in self.cluster.nodes]
        stale = [await self._views(node) for node in self.cluster.nodes]
        after = [await self.cluster.raft(node) for node in self.cluster.nodes]
        indexes = {view.applied_index if view is not None else None for view in [*before, *after]}
        for view in (view for views in stale for view in views or ()):
            del view["loss_windows"], view["traffic"]  # measured, so they may change between two reads
        return len(indexes) == 1 and None not in indexes and all(views == stale[0] for views in stale)

    async def _events_pass(self, began: float) -> None:
        """From some number on all that are sent come out of every pipeline (once: that is the witness's)."""
        outputs = [
            (name, pipeline)
            for name, spec in self.writes.desired.groups.items()
            for pipeline in groups.outputs(spec)
        ]
        come = self.load.witness.outputs
        first = self.load.next
        missing: dict[int, list[str]] = {}

        async def passed() -> bool:
            nonlocal first
            for n in range(first, self.load.next):
                missing[n] = [
                    f"{name}/{pipeline}" for name, pipeline in outputs if n not in come[name, pipeline]
                ]
                if missing[n] and n < self.load.next - _STILL_COMING:
                    first = n + 1
                elif missing[n]:
                    return False
                elif n - first >= _NUMBERS:
                    return True
            return False

        if await self._first_within(_PASS_WITHIN, passed) is None:
            silent = {
                n: names for n, names in missing.items() if names and n < self.load.next - _STILL_COMING
            }
            self.complaints.append(f"events do not pass, {len(outputs)} pipelines asked: {silent}")
        else:
            self.passed.append(max(self.load.sent[first] - began, 0.0))

    # -- asking

    async def _views(self, node: Node | None = None) -> list[View] | None:
        """The groups; of one node alone when it is given."""
        found = await self._get("/pipeline-groups?limit=1000", node)
        return found["pipeline_groups"] if found is not None else None

    async def _get(self, path: str, node: Node | None = None, missing: View | None = None) -> Any:
        stale = f"{'&' if '?' in path else '?'}consistency=stale" if node is not None else ""
        for each in self.cluster.nodes if node is None else [node]:
            answer = await self.cluster.ask(each, "GET", API_BASE + path + stale)
            if answer is not None and answer.status == 200:
                return msgspec.json.decode(answer.content)
            if answer is not None and answer.status == 404 and missing is not None:
                return missing
        return None
