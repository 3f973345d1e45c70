"""Everything that can be known to be wrong before the first event, all of it at once.

Declarations first, then streams in the order in which they feed each other, because what a stream makes
decides which fields its followers can name. A faulty part never stops the checks of the others; the plan
that comes out is complete only when no error was reported.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from vpl import ast
from vpl.aggregates import AGGREGATES
from vpl.diagnostics import Diagnostic
from vpl.expressions import evaluate
from vpl.functions import FUNCTIONS
from vpl.operations import StreamChecker, check_stream, inputs, literal_params
from vpl.operations.sequence import unfolded
from vpl.parser import parse
from vpl.plan import ConnectorDecl, Function, Plan, SinkBinding, SourceBinding, StreamPlan
from vpl.scope import SPECIAL, Report, Scope
from vpl.stages import kept
from vpl.values import MISMATCH, sized

MAX_DEPTH = 250
"""How many functions an event passes through inside one another; Python's recursion limit is 1000."""


MAX_CALLS = 50
MAX_COST = 10_000
"""Parts of expressions that one call of a function evaluates, in it and in those it calls."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`plan` is None when a diagnostic is an error."""

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]


def check(source: str, registered: Collection[str] = ()) -> Checked:
    """Parse and check `source`; raises nothing. `registered`: connectors it may name without declaring."""
    parsed = parse(source)
    report = Report()
    report.diagnostics += parsed.diagnostics
    plan = _Checker(parsed.statements, report, registered).plan()
    if not plan.streams and not report.diagnostics:
        report.error(ast.Node(), "the program has no stream", "write `stream Name = EventType.emit()`")
    diagnostics = tuple(sorted(set(report.diagnostics), key=lambda d: (d.line, d.column, d.message)))
    wrong = any(diagnostic.severity == "error" for diagnostic in diagnostics)
    return Checked(None if wrong else plan, diagnostics)


S = TypeVar("S", bound=ast.Statement)


class _Checker:
    def __init__(
        self, statements: tuple[ast.Statement, ...], report: Report, registered: Collection[str]
    ) -> None:
        self._report = report
        self._registered = registered
        self._definitions = self._unique([s for s in statements if isinstance(s, ast.Definition)], "constant")
        self._connectors = self._unique([s for s in statements if isinstance(s, ast.Connector)], "connector")
        self._events = self._unique([s for s in statements if isinstance(s, ast.EventType)], "event type")
        self._patterns = self._unique([s for s in statements if isinstance(s, ast.Pattern)], "pattern")
        self._all_streams = [self._unfolded(s) for s in statements if isinstance(s, ast.Stream)]
        self._streams = self._unique(self._all_streams, "stream")
        self._declared = self._unique([s for s in statements if isinstance(s, ast.Function)], "function")
        self._functions: dict[str, Function] = {}
        self._constants: dict[str, ast.Literal] = {}
        self._folds: list[ast.Aggregation] = []
        self._named = {name: frozenset(f for f, _ in event.fields) for name, event in self._events.items()}

    def _unfolded(self, stream: ast.Stream) -> ast.Stream:
        pattern = None if stream.source.combinator else self._patterns.get(stream.source.name)
        return stream if pattern is None else unfolded(stream, pattern)

    def _unique(self, statements: list[S], what: str) -> dict[str, S]:
        found: dict[str, S] = {}
        for statement in statements:
            if (first := found.setdefault(statement.name, statement)) is not statement:
                hint = f"the first is in line {first.line}; choose another name"
                self._report.error(statement, f"the {what} `{statement.name}` is declared twice", hint)
        return found

    def plan(self) -> Plan:
        self._evaluate_definitions()
        self._check_functions()
        connectors = {
            c.name: ConnectorDecl(c.name, c.type, literal_params(c.params, self._constants, self._report))
            for c in self._connectors.values()
        }
        known = frozenset(connectors) | frozenset(self._registered)
        made: dict[str, frozenset[str] | None] = {}
        plans: dict[str, StreamPlan] = {}
        sources: list[SourceBinding] = []
        sinks: list[SinkBinding] = []
        depths: dict[str, int] = {}
        for stream in self._in_order():
            scope = self._scope(stream, made)
            checker = StreamChecker(stream, scope, known, len(sinks), made, self._named)
            plan = plans[stream.name] = check_stream(checker)
            made[stream.name] = checker.fields
            above = max((depths.get(name, 0) for name in plan.inputs), default=0)
            depths[stream.name] = above + 1 + len(list(kept(plan)))
            if above <= MAX_DEPTH < depths[stream.name]:
                message = f"streams and windows feed each other more than {MAX_DEPTH} deep"
                self._report.error(stream, message, "split the program into pipelines in a row")
            sources += (binding for binding in checker.sources if binding not in sources)
            sinks += checker.sinks
        for stream in self._all_streams:
            if plans.get(stream.name) is None or self._streams[stream.name] is not stream:
                check_stream(StreamChecker(stream, self._scope(stream, {}), known, 0, {}, self._named))
        self._check_unused_patterns(known, made)
        variables = {
            d.name: self._constants[d.name].value for d in self._definitions.values() if d.kind == "var"
        }
        streams = tuple(plans[name] for name in self._streams if name in plans)
        functions = tuple(self._functions.values())
        folds = tuple(self._folds)
        return Plan(connectors, tuple(sources), tuple(sinks), streams, functions, folds, variables)

    def _check_unused_patterns(
        self, connectors: frozenset[str], made: dict[str, frozenset[str] | None]
    ) -> None:
        used = {id(step) for stream in self._all_streams for step in stream.operations}
        for pattern in self._patterns.values():
            if not any(id(step) in used for step in pattern.steps):
                source = ast.Source(pattern.name, line=pattern.line, column=pattern.column)
                alone = ast.Stream(pattern.name, source, (), line=pattern.line, column=pattern.column)
                stream = unfolded(alone, pattern)
                scope = self._scope(stream, made)
                check_stream(StreamChecker(stream, scope, connectors, 0, made, self._named))

    def _evaluate_definitions(self) -> None:
        for definition in self._definitions.values():
            before = len(self._report.diagnostics)
            expr = Scope(self._report, self._constants, "", frozenset()).resolve(definition.value)
            value: ast.Literal = ast.Literal(None)
            if isinstance(expr, ast.Literal):
                value = expr
            elif len(self._report.diagnostics) == before:
                try:
                    value = ast.Literal(sized(evaluate(expr)))
                except MISMATCH as error:
                    message = f"`{definition.name}` cannot be computed: {error}"
                    self._report.error(definition, message, "write a value that needs no event")
            if isinstance(value.value, float) and not math.isfinite(value.value):
                self._report.error(
                    definition, f"`{definition.name}` is not a finite number", "write a smaller one"
                )
                value = ast.Literal(None)
            self._constants[definition.name] = value

    def _check_functions(self) -> None:
        """In the order of the text: a function may call those above it, so none can call itself."""
        costs: dict[str, int] = {}
        calls: dict[str, int] = {}
        for declared in self._declared.values():
            if declared.name in FUNCTIONS or declared.name in AGGREGATES or declared.name in SPECIAL:
                message = f"`{declared.name}` is a function of the language"
                self._report.error(declared, message, "choose another name")
                continue
            names = [name for name, _ in declared.parameters]
            if len(set(names)) != len(names):
                self._report.error(declared, "a parameter is given twice", "choose another name")
            later = frozenset(self._declared) - self._functions.keys()
            scope = Scope(self._report, self._constants, "", frozenset(), functions=self._functions)
            body = replace(scope, parameters=frozenset(names), later=later).resolve(declared.body)
            parts = list(ast.walk(body))
            called = [part.function for part in parts if isinstance(part, ast.Apply)]
            costs[declared.name] = len(parts) + sum(costs[name] for name in called)
            calls[declared.name] = 1 + max((calls[name] for name in called), default=0)
            if calls[declared.name] > MAX_CALLS:
                message = f"functions call each other more than {MAX_CALLS} deep"
                self._report.error(declared, message, "write the expression where it is used")
                calls[declared.name] = 0
            if costs[declared.name] > MAX_COST:
                message = f"`{declared.name}` evaluates more than {MAX_COST:,} parts of expressions"
                self._report.error(declared, message, "call fewer functions in it")
                costs[declared.name] = 0
            self._functions[declared.name] = Function(declared.name, tuple(names), body)

    def _scope(self, stream: ast.Stream, made: dict[str, frozenset[str] | None]) -> Scope:
        source, takes = stream.source, inputs(stream)
        for name in takes:
            if name not in self._streams and name not in self._events:
                known = [other for other in (*self._streams, *self._events) if other != stream.name]
                if hint := self._report.similar(name, known):
                    self._report.warning(source, f"nothing here makes or declares `{name}`", hint)
        declared = [self._events[name] for name in takes if name in self._events]
        names = frozenset(name for event in declared for name, _ in event.fields)
        made_by = [made.get(name) for name in takes]
        fields = frozenset().union(*(f for f in made_by if f is not None)) if None not in made_by else None
        event_type = source.name if not source.combinator else stream.name
        names = names if len(declared) == len(takes) else frozenset()
        return Scope(
            self._report,
            self._constants,
            event_type,
            fields,
            names,
            source.alias,
            functions=self._functions,
            folds=self._folds,
        )

    def _in_order(self) -> list[ast.Stream]:
        """The streams, each after the one that feeds it; those in a cycle are reported and left out."""
        ordered: dict[str, ast.Stream] = {}
        refused: set[str] = set()
        for start in self._streams:
            path, waiting = [start], [self._fed_by(start)]
            while path:
                name = next(waiting[-1], None)
                if name is None:
                    waiting.pop()
                    if (done := path.pop()) not in refused:
                        ordered[done] = self._streams[done]
                elif name in path:
                    cycle = path[path.index(name) :]
                    self._refuse_cycle(cycle)
                    refused.update(cycle)
                elif name not in ordered and name not in refused:
                    path.append(name)
                    waiting.append(self._fed_by(name))
        return list(ordered.values())

    def _fed_by(self, name: str) -> Iterator[str]:
        return (source for source in inputs(self._streams[name]) if source in self._streams)

    def _refuse_cycle(self, cycle: list[str]) -> None:
        message = f"streams feed each other in a circle: {' -> '.join([*cycle[::-1], cycle[-1]])}"
        hint = "a stream needs a name other than the types it consumes, directly or through others"
        self._report.error(self._streams[cycle[0]], message, hint)
