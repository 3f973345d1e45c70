"""Sequences: steps, `.within`, `.not` and the `.partition_by` among them become one stage, the first.

A sequence is written as steps (`A as a -> B where k == a.k as b .within(5m)`) or as a pattern that the stream
takes by name. Steps, and what belongs to them, come before any other operation; after them the event is the
match: a map of its parts by their names.

A condition is taken apart: what names the event alone is tried once, and an equality between the event and
what the run holds finds the runs (`Item.equal`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from vpl import ast
from vpl.operations.stream import StreamChecker, duration
from vpl.plan import Equalities, Group, Item, Negation, Sequence
from vpl.runs import HEADS
from vpl.scope import TIME_NAMES, Scope

OWN = ("->", "within", "not", "partition_by")
HINT = "write `A as a -> B where k == a.k as b .within(5m)`"
MAX_PARTS = 100


def types(stream: ast.Stream) -> tuple[str, ...]:
    """The types that a sequence takes, in the order of the text."""
    found = [part.event_type for step in _steps(stream) for part in step.parts]
    for operation in stream.operations:
        if operation.name == "not":
            found += [arg.value.name for arg in operation.args if isinstance(arg.value, ast.Name)]
    return tuple(dict.fromkeys(found))


def is_sequence(stream: ast.Stream) -> bool:
    source = stream.source
    marked = source.every or source.where is not None or not source.name
    return marked or any(isinstance(o, ast.Step) or o.name in ("within", "not") for o in stream.operations)


def unfolded(stream: ast.Stream, pattern: ast.Pattern) -> ast.Stream:
    """The stream with the pattern that it takes written out; its source then has no name."""
    source = stream.source
    return replace(
        stream,
        source=ast.Source("", line=source.line, column=source.column),
        operations=(*pattern.steps, *pattern.options, *stream.operations),
    )


def _steps(stream: ast.Stream) -> list[ast.Step]:
    source, steps = stream.source, [o for o in stream.operations if isinstance(o, ast.Step)]
    if not source.name:
        return steps
    place = {"line": source.line, "column": source.column}
    part = ast.Part(source.name, source.alias, source.where, source.every, **place)
    return [ast.Step("->", (), "any", (part,), **place), *steps]


class SequenceChecker:
    """Takes the operations of a stream that belong to its sequence, until one that does not."""

    def __init__(self, checker: StreamChecker) -> None:
        self._checker = checker
        self._waiting = _steps(checker.stream)
        self._steps: list[ast.Step] = []
        self._negations: list[tuple[ast.Operation, int]] = []  # and how many steps stand before it
        self._within: int | None = None
        self._within_said = False
        self._keys: tuple[ast.Argument, ...] = ()
        self.finished = False
        if checker.stream.source.name:
            self._take_step()

    def takes(self, operation: ast.Operation) -> bool:
        """Whether it belongs to the sequence; the first that does not ends it."""
        if self.finished:
            return False
        if isinstance(operation, ast.Step):
            self._take_step()
        elif operation.name == "within":
            self._take_within(operation)
        elif operation.name == "not":
            self._negations.append((operation, len(self._steps)))
        elif operation.name == "partition_by" and not self._keys and not self._names_parts(operation):
            self._take_keys(operation)
        elif self._waiting:
            hint = "filter in a stream of its own, or by `A where ... as a -> B`"
            self._checker.report.error(operation, f"`.{operation.name}` stands before `->`", hint)
        else:
            self.finish()
            return False
        return True

    def _take_step(self) -> None:
        self._steps.append(self._waiting.pop(0))

    def _take_within(self, operation: ast.Operation) -> None:
        if self._within_said:
            self._checker.report.error(operation, "a second `.within`", "give one time, from the first event")
        value = self._checker.single(operation, "a duration")
        self._within = None if value is None else duration(self._checker, value)
        self._within_said = True

    def _take_keys(self, operation: ast.Operation) -> None:
        if not operation.args or any(arg.name is not None for arg in operation.args):
            hint = "write `.partition_by(site)`"
            self._checker.report.error(operation, "`.partition_by` takes one expression or more", hint)
        self._keys = operation.args

    def _names_parts(self, operation: ast.Operation) -> bool:
        names = {part.alias for step in self._steps for part in step.parts}
        return any(part.name in names for arg in operation.args for part in _names(arg.value))

    # --- the stage

    def finish(self) -> None:
        """All steps are there: the stage, and what names mean after it."""
        if self.finished:
            return
        self.finished = True
        checker, report = self._checker, self._checker.report
        place = self._steps[0] if self._steps else checker.stream
        parts = [part for step in self._steps if step.kind != "never" for part in step.parts]
        names = self._named(parts)
        if not self._within_said and not self._is_one_event():
            report.error(checker.stream.source, "a sequence without `.within`", "add `.within(5m)`")
        if len(parts) > MAX_PARTS:
            report.error(place, f"a sequence has at most {MAX_PARTS} parts", "make streams of some first")
        stage = self._stage(names)
        if stage is not None:
            several = frozenset(name for part, name in zip(parts, names, strict=True) if name and part.many)
            known = frozenset(name for name in names if name)
            checker.stages.append(stage)
            checker.scope = replace(
                checker.scope.narrowed(known, checker.stream.name), several=several, folds=checker.scope.folds
            )

    def _is_one_event(self) -> bool:
        """Whether nothing could follow the first event, nor be waited for."""
        return (
            len(self._steps) == 1
            and self._steps[0].kind == "any"
            and not self._steps[0].parts[0].many
            and not self._negations
        )

    def _named(self, parts: list[ast.Part]) -> list[str | None]:
        """The name of each part in the match: as it says, else its type where there is one of it."""
        given = [part.alias or part.event_type for part in parts]
        names: list[str | None] = []
        for part, name in zip(parts, given, strict=True):
            if part.alias is not None and given.index(name) != len(names) and name in names:
                self._checker.report.error(part, f"two parts are called `{name}`", "choose another name")
            unique = part.alias is not None or given.count(name) == 1
            names.append(name if unique else None)
        return names

    def _stage(self, names: list[str | None]) -> Sequence | None:
        steps = [step for step in self._steps if step.kind != "never"]
        if not steps or self._steps[0].kind == "never":
            self._checker.report.error(self._checker.stream, "a sequence begins with an event", HINT)
            return None
        groups: list[Group] = []
        slot = 0
        for number, step in enumerate(steps):
            before = self._slots(names[:slot], steps[:number])
            later = frozenset(name for name in names[slot + len(step.parts) :] if name)
            together = frozenset(name for name in names[slot : slot + len(step.parts)] if name)
            items = []
            for part in step.parts:
                coming = later | (together - {names[slot]})
                items.append(self._item(part, names[slot], before, coming))
                slot += 1
            groups.append(Group(tuple(items), step.kind == "all"))
        negations = tuple(self._all_negations(names, steps))
        if self._is_one_event():
            hint = "conditions stand in `.where(...)`, a time in `.window(...)`; a sequence is `A -> B`"
            self._checker.report.error(self._checker.stream.source, "a sequence of one event", hint)
        scope = replace(self._checker.scope, fields=None, alias=None, declared=frozenset(), event_type="")
        keys = tuple(scope.resolve(arg.value) for arg in self._keys)
        return Sequence(tuple(groups), negations, self._within or 1, keys)

    def _slots(self, names: list[str | None], steps: list[ast.Step]) -> tuple[dict[str, int], frozenset[str]]:
        """The parts that a condition after these steps can name, and which of them are several events."""
        parts = [part for step in steps for part in step.parts]
        pairs = list(zip(names, parts, strict=True))
        slots = {name: HEADS + i for i, (name, _) in enumerate(pairs) if name}
        return slots, frozenset(name for name, part in pairs if name and part.many)

    def _item(
        self,
        part: ast.Part,
        name: str | None,
        before: tuple[dict[str, int], frozenset[str]],
        coming: frozenset[str],
    ) -> Item:
        conditions = self._conditions(part.event_type, part.alias, part.where, before, coming)
        times = () if name is None else tuple(sorted(self._times(name)))
        equal = _equalities(conditions, self._lists(before))
        return Item(part.event_type, name, conditions, equal, part.many, times)

    @staticmethod
    def _lists(before: tuple[dict[str, int], frozenset[str]]) -> set[int]:
        return {slot for name, slot in before[0].items() if name in before[1]}

    def _conditions(
        self,
        event_type: str,
        alias: str | None,
        where: ast.Expr | None,
        before: tuple[dict[str, int], frozenset[str]],
        coming: frozenset[str],
    ) -> tuple[ast.Expr, ...]:
        if where is None:
            return ()
        checker = self._checker
        scope = Scope(
            checker.report,
            checker.scope.constants,
            event_type,
            checker.fields_of.get(event_type),
            checker.declared.get(event_type, frozenset()),
            alias,
            functions=checker.scope.functions,
            captured=before[0],
            several=before[1],
            coming=coming,
            folds=checker.scope.folds,
        )
        resolved = scope.resolve(where)
        both = isinstance(resolved, ast.Logic) and resolved.op == "and"
        return resolved.operands if both and isinstance(resolved, ast.Logic) else (resolved,)

    def _all_negations(self, names: list[str | None], steps: list[ast.Step]) -> Iterator[Negation]:
        for operation, after in self._negations:
            first = last = sum(step.kind != "never" for step in self._steps[:after])
            if after == len(self._steps) and len(steps) > 1:  # from the first event to the last
                first = int(steps[0].kind != "all")
                last = len(steps) - (not steps[-1].parts[0].many)
            arg = operation.args[0] if len(operation.args) == 1 else None
            if arg is None or arg.name is not None or not isinstance(arg.value, ast.Name):
                hint = "write `.not(Cancel where id == a.id)`"
                self._checker.report.error(operation, "`.not` takes a type of events", hint)
                continue
            part = ast.Part(arg.value.name, None, arg.where, line=arg.line, column=arg.column)
            yield self._negation(part, names, steps, first, last)
        after = 0
        for step in self._steps:
            if step.kind != "never":
                after += 1
            else:
                yield self._negation(step.parts[0], names, steps, after, after)

    def _negation(
        self, part: ast.Part, names: list[str | None], steps: list[ast.Step], first: int, last: int
    ) -> Negation:
        count = sum(len(step.parts) for step in steps[: max(first, 1)])
        before = self._slots(names[:count], steps[: max(first, 1)])
        coming = frozenset(name for name in names[count:] if name)
        if part.many or part.alias is not None:
            self._checker.report.error(part, "what must not come has no name and no `+`", "leave it out")
        conditions = self._conditions(part.event_type, None, part.where, before, coming)
        equal = _equalities(conditions, self._lists(before))
        return Negation(part.event_type, conditions, equal, first, last)

    def _times(self, name: str) -> set[str]:
        """The names by which the program asks for the time of this part."""
        stream = self._checker.stream
        exprs = [arg.value for operation in stream.operations for arg in operation.args]
        exprs += [arg.where for o in stream.operations for arg in o.args if arg.where is not None]
        exprs += [part.where for step in self._steps for part in step.parts if part.where is not None]
        members = (part for expr in exprs for part in ast.walk(expr) if isinstance(part, ast.Member))
        return {
            member.name
            for member in members
            if member.name in TIME_NAMES and any(inner.name == name for inner in _names(member.value))
        }


def _names(expr: ast.Expr) -> Iterator[ast.Name]:
    return (part for part in ast.walk(expr) if isinstance(part, ast.Name))


def _equalities(conditions: Iterable[ast.Expr], lists: Collection[int]) -> Equalities:
    """Those of which the run's side stays as it is while the run waits: without the slots `lists`."""
    found = []
    for condition in conditions:
        if isinstance(condition, ast.Binary) and condition.op == "==":
            for event, run in ((condition.left, condition.right), (condition.right, condition.left)):
                grows = any(isinstance(part, ast.Captured) and part.slot in lists for part in ast.walk(run))
                if of_event(event) and not of_run(event) and of_run(run) and not of_event(run) and not grows:
                    found.append((event, run))
                    break
    return tuple(found)


def of_event(expr: ast.Expr) -> bool:
    """Whether it names the event at hand."""
    return any(isinstance(part, ast.Field | ast.EventTime) for part in ast.walk(expr))


def of_run(expr: ast.Expr) -> bool:
    """Whether it names what the run holds."""
    return any(isinstance(part, ast.Captured) for part in ast.walk(expr))
