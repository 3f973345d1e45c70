"""A compiled program and its running instances.

`Program` is immutable and shared; `Program.start()` is cheap. An `Engine` is synchronous and
single-threaded and does no I/O: the host feeds events with `process`, tells the time, and takes the outputs
away.

Time. Events carry theirs (`ts`, ms). A time window closes when an event of its key reaches its end, or by
`advance(now)`, which the host calls at `next_deadline()`. Before each batch of events the host sets
`engine.now` to its clock: windows opened then are due by the timer one window size later, however old the
events' own times are. A host that never sets it gets the events' times instead, which is the same for live
events.

Data never makes the engine raise: an expression without value is counted in `mismatches`.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from vpl import aggregates, division, runs, snapshot, windows
from vpl.check import check
from vpl.compile import generate
from vpl.diagnostics import Diagnostic, VplError
from vpl.expressions import NAMESPACE
from vpl.keeper import LOSSES, MAX_KEYS, Keeper, KeeperPlan
from vpl.passed import Ticks
from vpl.plan import ConnectorDecl, Emit, Plan, SinkBinding, SourceBinding, StreamPlan
from vpl.snapshot import Keepers
from vpl.stages import keeper_plans, kind_of

Output = tuple[int, str, dict[str, Any], int]
"""(sink id, event type, fields, time in ms); sink id -1 is an output of `.emit`."""

_NAMESPACE = {
    **NAMESPACE,
    **{
        function.__name__: function
        for function in (
            *(aggregates.present, aggregates.deviation, aggregates.percentile, aggregates.ema_of),
            *(windows.key_of, windows.value_of, runs.bucket_of, len, set, tuple, any),
        )
    },
}


def check_source(source: str, registered: Collection[str] = ()) -> list[Diagnostic]:
    """Every error and warning in `source`, in order; empty when there is none. Never raises.

    `registered`: names of connectors that the program may use without declaring them.
    """
    return list(check(source, registered).diagnostics)


def compile_source(source: str, registered: Collection[str] = ()) -> "Program":
    """The program that `source` says; raises `VplError` with all its errors. `registered`: as above."""
    checked = check(source, registered)
    if checked.plan is None:
        raise VplError(checked.diagnostics)
    return Program.of(source, checked.plan)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """`consumes`: event types taken from outside; `emits`: those that come out with sink id -1.

    The index of a binding in `sinks` is its sink id. `python` is the generated code, for people to read.
    """

    source: str = field(repr=False)
    source_sha256: str
    connectors: dict[str, ConnectorDecl]
    sources: tuple[SourceBinding, ...]
    sinks: tuple[SinkBinding, ...]
    consumes: frozenset[str]
    emits: frozenset[str]
    variables: dict[str, Any] = field(repr=False)
    python: str = field(repr=False)
    _streams: tuple[StreamPlan, ...] = field(repr=False)
    _keepers: tuple[KeeperPlan, ...] = field(repr=False)
    _made: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, source: str, plan: Plan) -> "Program":
        python = generate(plan)
        made = dict(_NAMESPACE)
        exec(compile(python, "<vpl>", "exec"), made)  # noqa: S102 - the text is made by vpl.compile alone
        names = {stream.name for stream in plan.streams}
        return cls(
            source=source,
            source_sha256=hashlib.sha256(source.encode()).hexdigest(),
            connectors=plan.connectors,
            sources=plan.sources,
            sinks=plan.sinks,
            consumes=frozenset(name for stream in plan.streams for name in stream.inputs) - names,
            emits=frozenset(
                s.name for s in plan.streams if any(isinstance(stage, Emit) for stage in s.stages)
            ),
            variables=plan.variables,
            python=python,
            _streams=plan.streams,
            _keepers=tuple(keeper_plans(plan)),
            _made=made,
        )

    @property
    def registered(self) -> frozenset[str]:
        """The connectors it names and does not declare: who runs it has them."""
        named = {source.connector for source in self.sources}
        named |= {sink.connector for sink in self.sinks if sink.connector is not None}
        return frozenset(named) - self.connectors.keys()

    @property
    def streams(self) -> tuple[StreamPlan, ...]:
        """Its streams, in the order of the text."""
        return self._streams

    def keeps(self, stream: str) -> list[str]:
        """The operations of a stream that have a state, by their names in a checkpoint."""
        return [plan.operation for plan in self._keepers if plan.stream == stream]

    @property
    def stateful(self) -> bool:
        """Whether what it puts out depends on more than the event at hand."""
        return bool(self._keepers)

    def divided_by(self, name: str) -> division.Positions:
        """Where the keys of its windows hold the field `name`; raises `division.Undivided`."""
        return division.positions(self._streams, name)

    def start(self, *, max_keys: int = MAX_KEYS) -> "Engine":
        """A running instance with empty state; each stage that keeps something keeps at most `max_keys`."""
        return Engine(self, self._made["pipeline"], [(p, self._keeper(p, max_keys)) for p in self._keepers])

    def _keeper(self, plan: KeeperPlan, limit: int) -> Keeper:
        keep = kind_of(plan.stage).keep
        assert keep is not None
        return keep(plan.stage, self._made["fresh"][plan.tag], limit)


class Engine:
    """One running pipeline; made by `Program.start()`.

    `process(event_type, fields, ts)` takes one event: it is the generated function itself. An event type
    that no stream consumes is counted in `unknown_type`. `fields` is never changed, but may be part of
    outputs.
    """

    process: Callable[[str, dict[str, Any], int], None]

    def __init__(
        self,
        program: Program,
        pipeline: Callable[..., tuple[Any, ...]],
        keepers: Keepers,
    ) -> None:
        self.program = program
        self._keepers = keepers
        self._clocked = [keeper for _, keeper in keepers if isinstance(keeper, Ticks)]
        self._lost = dict.fromkeys(LOSSES, 0)  # before the keepers began to count
        self._outputs: list[Output] = []
        named = {plan.tag: keeper for plan, keeper in keepers}
        made = pipeline(self._outputs.append, named)
        self.process, self._advance, self._counters, self._set_counters, self._clock, self._set_clock = made

    @property
    def now(self) -> int | None:
        """The host's clock (ms) for the events that follow; None when the host does not tell it."""
        now: int | None = self._clock()
        return now

    @now.setter
    def now(self, ms: int | None) -> None:
        self._set_clock(ms)
        if ms is not None:
            for keeper in self._clocked:
                keeper.begin(ms)

    def advance(self, now_ms: int) -> None:
        """The timer: closes and fires what is due at `now_ms` (processing time)."""
        self._advance(now_ms)

    def next_deadline(self) -> int | None:
        """When `advance` has something to do next (ms); None when nothing waits for a time."""
        dues = [keeper.next_due() for _, keeper in self._keepers]
        return min((due for due in dues if due is not None), default=None)

    @property
    def has_timers(self) -> bool:
        """A stage fires by the clock alone."""
        return bool(self._clocked)

    def take(self) -> list[Output]:
        """The outputs since the last call, in order. Call it after each batch: only this empties the list."""
        outputs = self._outputs.copy()
        self._outputs.clear()
        return outputs

    @property
    def counters(self) -> dict[str, int]:
        """A copy: events_in, events_out, mismatches, unknown_type, values_dropped, and `keeper.LOSSES`."""
        counters = {**self._counters(), **self._lost}
        for _, keeper in self._keepers:
            for name, count in keeper.lost.items():
                counters[name] += count
        return counters

    def outweighs(self, limit: int) -> bool:
        """Whether it holds more than about `limit` values; the answer takes no longer the more there are."""
        for _, keeper in self._keepers:
            limit -= keeper.weigh(limit)
            if limit < 0:
                return True
        return False

    def snapshot(self) -> dict[str, Any]:
        """The state as plain data; later events do not change it. Outputs not yet taken are not in it."""
        program = self.program
        return snapshot.save(program.source_sha256, self.counters, program.variables, self._keepers)

    def restore(self, data: dict[str, Any], *, force: bool = False) -> None:
        """Go on from a snapshot; raises `VplStateError` and then stays as it was.

        Refused are another program's state (unless `force`), a newer version, and malformed data.
        """
        counters, loaded = snapshot.load(data, self.program.source_sha256, self._keepers, force=force)
        self._lost = {name: counters.pop(name) for name in LOSSES}
        self._set_counters(counters)
        for (_, keeper), contents in zip(self._keepers, loaded, strict=True):
            keeper.replace(contents)
            keeper.lost.clear()
