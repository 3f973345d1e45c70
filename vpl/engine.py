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

from vpl import aggregates, division, snapshot, windows
from vpl.check import check
from vpl.compile import WindowPlan, generate, window_plans
from vpl.diagnostics import Diagnostic, VplError
from vpl.expressions import NAMESPACE
from vpl.plan import ConnectorDecl, Emit, Plan, SinkBinding, SourceBinding, StreamPlan, TimeWindow
from vpl.windows import MAX_KEYS, TimeWindows, Windows

Output = tuple[int, str, dict[str, Any], int]
"""(sink id, event type, fields, time in ms); sink id -1 is an output of `.emit`."""

_NAMESPACE = {
    **NAMESPACE,
    **{
        function.__name__: function
        for function in (
            *(aggregates.present, aggregates.deviation, aggregates.percentile),
            *(windows.key_of, windows.value_of, len, set),
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
    _windows: tuple[WindowPlan, ...] = field(repr=False)
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
            consumes=frozenset(stream.source for stream in plan.streams) - names,
            emits=frozenset(
                s.name for s in plan.streams if any(isinstance(stage, Emit) for stage in s.stages)
            ),
            variables=plan.variables,
            python=python,
            _streams=plan.streams,
            _windows=tuple(window_plans(plan)),
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
        return [plan.operation for plan in self._windows if plan.stream == stream]

    @property
    def stateful(self) -> bool:
        """Whether what it puts out depends on more than the event at hand."""
        return bool(self._windows)

    def divided_by(self, name: str) -> division.Positions:
        """Where the keys of its windows hold the field `name`; raises `division.Undivided`."""
        return division.positions(self._streams, name)

    def start(self, *, max_keys: int = MAX_KEYS) -> "Engine":
        """A running instance with empty state, with at most `max_keys` windows open per stream."""
        opened = [(plan, self._open(plan, max_keys)) for plan in self._windows]
        return Engine(self, self._made["pipeline"], opened)

    def _open(self, plan: WindowPlan, max_keys: int) -> Windows:
        fresh = self._made["fresh"][plan.tag]
        if isinstance(plan.window, TimeWindow):
            return TimeWindows(plan.slots, fresh, max_keys, plan.window.size_ms)
        return Windows(plan.slots, fresh, max_keys)


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
        opened: list[tuple[WindowPlan, Windows]],
    ) -> None:
        self.program = program
        self._opened = opened
        self._outputs: list[Output] = []
        named = {plan.tag: window for plan, window in opened}
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

    def advance(self, now_ms: int) -> None:
        """The timer: closes the time windows that are due at `now_ms` (processing time)."""
        self._advance(now_ms)

    def next_deadline(self) -> int | None:
        """When `advance` has something to do next (ms); None when no time window is open."""
        dues = [window.next_due() for _, window in self._opened if isinstance(window, TimeWindows)]
        return min((due for due in dues if due is not None), default=None)

    def take(self) -> list[Output]:
        """The outputs since the last call, in order. Call it after each batch: only this empties the list."""
        outputs = self._outputs.copy()
        self._outputs.clear()
        return outputs

    @property
    def counters(self) -> dict[str, int]:
        """A copy: events_in, events_out, mismatches, unknown_type, values_dropped, window_evicted."""
        return {**self._counters(), "window_evicted": sum(window.evicted for _, window in self._opened)}

    def outweighs(self, limit: int) -> bool:
        """Whether it holds more than about `limit` values; the answer takes no longer the more there are."""
        for _, window in self._opened:
            limit -= window.weigh(limit)
            if limit < 0:
                return True
        return False

    def snapshot(self) -> dict[str, Any]:
        """The state as plain data; later events do not change it. Outputs not yet taken are not in it."""
        program = self.program
        return snapshot.save(program.source_sha256, self.counters, program.variables, self._opened)

    def restore(self, data: dict[str, Any], *, force: bool = False) -> None:
        """Go on from a snapshot; raises `VplStateError` and then stays as it was.

        Refused are another program's state (unless `force`), a newer version, and malformed data.
        """
        counters, loaded = snapshot.load(data, self.program.source_sha256, self._opened, force=force)
        evicted = counters.pop("window_evicted")
        self._set_counters(counters)
        for (_, window), contents in zip(self._opened, loaded, strict=True):
            window.replace(contents)
            window.evicted, evicted = evicted, 0
