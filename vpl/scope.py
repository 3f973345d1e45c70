"""What names mean at one place of a stream: resolves the names in an expression and reports what is wrong
in it.

A bare name is a field of the current event, else a `const`/`let`/`var`. After `.emit`, `.select` or
`.aggregate` the fields are known, so a name can be decided here and a misspelt one is an error; the fields
of an event from outside are open, so the choice between field and constant is left to the running program.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vpl import ast
from vpl.aggregates import AGGREGATES
from vpl.diagnostics import Diagnostic, did_you_mean
from vpl.functions import FUNCTIONS
from vpl.patterns import PatternError, compile_pattern
from vpl.plan import Function
from vpl.values import TYPE_TESTS

TIME_NAMES = ("ts", "timestamp")
MAX_HINTS = 20
SPECIAL = {"is_null": (1, 1), "coalesce": (2, 100)}
"""Functions that look at expressions without value: fewest and most arguments."""


class Report:
    """Collects the diagnostics of a program; every check writes here and goes on."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def similar(self, word: str, known: Iterable[str]) -> str | None:
        """`did_you_mean`, as long as there are few diagnostics: it takes time."""
        return did_you_mean(word, known) if len(self.diagnostics) < MAX_HINTS else None

    def error(self, place: ast.Node, message: str, hint: str | None = None) -> None:
        self.diagnostics.append(Diagnostic("error", place.line, place.column, message, hint))

    def warning(self, place: ast.Node, message: str, hint: str | None = None) -> None:
        self.diagnostics.append(Diagnostic("warning", place.line, place.column, message, hint))


@dataclass(frozen=True, slots=True)
class Scope:
    """`fields` is None where any field may come; `declared` are those an `event` block names (for hints).

    In a step of a sequence, `captured` are the earlier parts by name, with their slots, and `coming` the
    later ones. `several` of them are lists of events; aggregates over these are gathered in `folds`.
    """

    report: Report
    constants: Mapping[str, ast.Literal]
    event_type: str
    fields: frozenset[str] | None = None
    declared: frozenset[str] = frozenset()
    alias: str | None = None
    in_aggregate: bool = False
    functions: Mapping[str, Function] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    captured: Mapping[str, int] = field(default_factory=dict)
    several: frozenset[str] = frozenset()
    coming: frozenset[str] = frozenset()
    folds: list[ast.Aggregation] = field(default_factory=list)

    def narrowed(self, fields: frozenset[str], event_type: str) -> "Scope":
        """The scope after the event was replaced by one of exactly these fields."""
        return Scope(self.report, self.constants, event_type, fields, functions=self.functions)

    def resolve(self, expr: ast.Expr) -> ast.Expr:
        """`expr` with its names resolved. What is wrong is reported, and stands for null."""
        match expr:
            case ast.Name():
                return self._name(expr)
            case ast.Member(value=ast.Name(name=name), name=member) if name == self.alias:
                return ast.Field(member, line=expr.line, column=expr.column)
            case ast.Member(value=ast.Name(name=name), name=member) if name in self.several:
                hint = f"choose: `last({name}.{member})`, `sum({name}.{member})`, `collect({name}.{member})`"
                self.report.error(expr, f"`{name}` is several events", hint)
                return ast.Literal(None)
            case ast.Call():
                return self._call(expr)
            case ast.TypeTest() if expr.type_name not in TYPE_TESTS:
                hint = self.report.similar(expr.type_name, TYPE_TESTS) or f"types are {', '.join(TYPE_TESTS)}"
                self.report.error(expr, f"unknown type `{expr.type_name}` after `is`", hint)
                return ast.Literal(None)
        return rebuild(expr, self.resolve)

    def _name(self, expr: ast.Name) -> ast.Expr:
        name, place = expr.name, _place(expr)
        constant = self.constants.get(name)
        known = self.fields is not None and name in self.fields
        if name in self.parameters:
            return ast.Parameter(name, **place)
        if name in self.captured:
            return ast.Captured(self.captured[name], **place)
        if name in self.coming:
            self.report.error(expr, f"`{name}` comes later", "put the condition to the later step")
            return ast.Literal(None)
        if self.in_aggregate:
            if constant is not None:
                return constant
            remedy = f"choose one event of the window: `last({name})`"
            self.report.error(expr, f"`{name}` has one value per event, not one per window", remedy)
        elif known:
            return ast.Field(name, **place)
        elif name == self.alias:
            self.report.error(expr, f"`{name}` is a whole event", f"take a field of it: `{name}.field`")
        elif constant is not None:
            return ast.Field(name, constant, **place) if self.fields is None else constant
        elif name in TIME_NAMES and self.event_type:
            return ast.EventTime(name, **place)
        elif name == "event_type" and self.event_type:
            return ast.Field(name, ast.Literal(self.event_type), **place)
        elif self.fields is None:
            if name not in self.declared and (hint := self.report.similar(name, self.declared)):
                self.report.warning(
                    expr, f"`{name}` is not a field that `event {self.event_type}` names", hint
                )
            return ast.Field(name, **place)
        else:
            hint = self.report.similar(name, [*self.fields, *self.constants]) or self._fields_hint()
            self.report.error(expr, f"unknown name `{name}`", hint)
        return ast.Literal(None)

    def _fields_hint(self) -> str | None:
        few = self.fields is not None and 0 < len(self.fields) <= 12
        return f"the fields here are {', '.join(sorted(self.fields or ()))}" if few else None

    def _call(self, call: ast.Call) -> ast.Expr:
        name, count = call.function, len(call.args)
        if name in self.functions:
            return self._apply(call, self.functions[name])
        if name in self.later:
            hint = "a function calls functions above it; repetition is for windows and their aggregates"
            self.report.error(call, f"`{name}` calls itself, or is declared below", hint)
            return ast.Literal(None)
        scalar = name in FUNCTIONS and (count != 1 or name not in AGGREGATES)
        if self.in_aggregate and name in AGGREGATES and not scalar:
            return self._aggregation(call)
        if name in AGGREGATES and not scalar and self._names_several(call):
            return self._fold(call)
        if name in AGGREGATES and name not in FUNCTIONS:
            hint = "use it in `.aggregate(...)` after `.window(...)`"
            self.report.error(call, f"`{name}` is an aggregate and needs a window", hint)
            return ast.Literal(None)
        if name == "coalesce" and count >= 2:
            return self._coalesce(call)
        special = SPECIAL.get(name)
        if special is None and name not in FUNCTIONS:
            what = "function or aggregate" if self.in_aggregate else "function"
            known = [*FUNCTIONS, *SPECIAL, *self.functions, *(AGGREGATES if self.in_aggregate else ())]
            self.report.error(call, f"unknown {what} `{name}`", self.report.similar(name, known))
            return ast.Literal(None)
        low, high = special or (FUNCTIONS[name].min_args, FUNCTIONS[name].max_args)
        if not low <= count <= high:
            takes = f"{low}" if low == high else f"{low} to {high}"
            self.report.error(call, f"`{name}` takes {takes} argument{'s' * (high > 1)}, not {count}")
            return ast.Literal(None)
        if name == "regex_match" and isinstance(call.args[1], ast.Literal):
            self._check_pattern(call.args[1])
        return rebuild(call, self.resolve)

    def _apply(self, call: ast.Call, function: Function) -> ast.Expr:
        takes, given = len(function.parameters), len(call.args)
        if takes != given:
            message = f"`{call.function}` takes {takes} argument{'s' * (takes != 1)}, not {given}"
            self.report.error(call, message, f"it is `fn {call.function}({', '.join(function.parameters)})`")
            return ast.Literal(None)
        return ast.Apply(call.function, tuple(map(self.resolve, call.args)), **_place(call))

    def _coalesce(self, call: ast.Call) -> ast.Expr:
        *others, value = map(self.resolve, call.args)
        for other in reversed(others):
            value = ast.Binary("??", other, value, line=call.line, column=call.column)
        return value

    def _check_pattern(self, literal: ast.Literal) -> None:
        try:
            compile_pattern(literal.value if isinstance(literal.value, str) else "")
        except PatternError as error:
            hint = "a pattern has literals, ., [...], \\d \\w \\s, groups, |, * + ? {m,n}, ^ and $"
            self.report.error(literal, f"the pattern is not taken: {error}", hint)

    def _names_several(self, call: ast.Call) -> str | None:
        """The first name in the arguments that is several events."""
        for part in (part for arg in call.args for part in ast.walk(arg)):
            if isinstance(part, ast.Name) and part.name in self.several:
                return part.name
        return None

    def _fold(self, call: ast.Call) -> ast.Expr:
        """An aggregate over what an `all` step took: the argument speaks of each event by the step's name."""
        name = self._names_several(call)
        assert name is not None
        for part in (part for arg in call.args for part in ast.walk(arg)):
            if isinstance(part, ast.Name) and part.name not in (name, *self.constants):
                hint = f"compute with `{part.name}` outside of it"
                self.report.error(part, f"`{call.function}` is over the events of `{name}` alone", hint)
                return ast.Literal(None)
        first = call.args[0]
        whole = isinstance(first, ast.Name) and first.name == name
        each = Scope(self.report, self.constants, "", alias=name, functions=self.functions, in_aggregate=True)
        made = each._aggregation(replace(call, args=call.args[1:] if whole else call.args))
        if not isinstance(made, ast.Aggregation):
            return made
        if made not in self.folds:
            self.folds.append(made)
        slot, place = self.captured.get(name), _place(call)
        events = ast.Field(name, **place) if slot is None else ast.Captured(slot, **place)
        return ast.Fold(self.folds.index(made), events, **place)

    def _aggregation(self, call: ast.Call) -> ast.Expr:
        aggregate, args = AGGREGATES[call.function], list(call.args)
        parameter: int | float | None = None
        if aggregate.parameter is not None and len(args) == 2:
            parameter = self._parameter(call, args.pop(), aggregate.parameter)
        fits = len(args) == 1 or (not args and aggregate.argument == "optional")
        if not fits or (aggregate.parameter is not None and len(call.args) != 2):
            takes = "an expression and a number" if aggregate.parameter else "one expression"
            self.report.error(call, f"`{call.function}` takes {takes}, not {len(call.args)} arguments")
            return ast.Literal(None)
        inner = replace(self, in_aggregate=False)
        argument = inner.resolve(args[0]) if args else None
        return ast.Aggregation(call.function, argument, parameter, **_place(call))

    def _parameter(self, call: ast.Call, arg: ast.Expr, limits: tuple[float, float]) -> int | float | None:
        value = self.constants.get(arg.name, arg) if isinstance(arg, ast.Name) else arg
        number: Any = value.value if isinstance(value, ast.Literal) else None
        if type(number) not in (int, float) or not limits[0] <= number <= limits[1]:
            self.report.error(arg, f"`{call.function}` needs a number from {limits[0]} to {limits[1]}")
            return None
        if call.function == "percentile" and 0 < number < 1:
            hint = f"for the {number * 100:g}th percentile write {number * 100:g}"
            self.report.warning(arg, f"`percentile` takes percent: {number} is close to the minimum", hint)
        return number if isinstance(number, int | float) else None


def _place(expr: ast.Expr) -> dict[str, Any]:
    return {"line": expr.line, "column": expr.column}


def rebuild(expr: ast.Expr, resolve: Callable[[ast.Expr], ast.Expr]) -> ast.Expr:
    """`expr` with each of its direct sub-expressions resolved."""
    match expr:
        case ast.Member() | ast.TypeTest():
            return replace(expr, value=resolve(expr.value))
        case ast.Index():
            return replace(expr, value=resolve(expr.value), index=resolve(expr.index))
        case ast.Slice():
            start, stop = (None if end is None else resolve(end) for end in (expr.start, expr.stop))
            return replace(expr, value=resolve(expr.value), start=start, stop=stop)
        case ast.Call() | ast.Apply():
            return replace(expr, args=tuple(map(resolve, expr.args)))
        case ast.Unary():
            return replace(expr, operand=resolve(expr.operand))
        case ast.Binary():
            return replace(expr, left=resolve(expr.left), right=resolve(expr.right))
        case ast.Logic():
            return replace(expr, operands=tuple(map(resolve, expr.operands)))
        case ast.IfElse():
            parts = map(resolve, (expr.condition, expr.then, expr.otherwise))
            return ast.IfElse(*parts, line=expr.line, column=expr.column)
        case ast.Array():
            return replace(expr, items=tuple(map(resolve, expr.items)))
        case ast.Map():
            return replace(expr, entries=tuple((key, resolve(value)) for key, value in expr.entries))
    return expr
