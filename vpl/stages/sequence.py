"""Sequences: the code that opens runs, takes them on and completes them.

An event of one type enters through its own function. There it meets, in this order: the runs that it may end
(negations), those that it may take on, from the last step to the first, so that it takes none of them on
twice, and then it may open one. Where a run waits is in the keeper (`vpl.runs`): for each part of the
sequence there is a *place* for the runs that wait for it (`take`), for an `all` part one for the runs that
may take more of them (`more`), for each negation one for those that it may end (`never`).
"""

from typing import NamedTuple

from vpl import ast
from vpl.expressions import ExpressionWriter
from vpl.operations.sequence import of_run
from vpl.plan import Equalities, Group, Item, Negation, Sequence
from vpl.runs import HEADS, MAX_TAKEN, Runs
from vpl.stages.kind import Kind
from vpl.writing import StreamWriter


class Place(NamedTuple):
    """Where runs wait: `kind` is take, more or never; from position `first` to `last`, as the item of this
    slot (of a negation: 0).
    """

    kind: str
    event_type: str
    conditions: tuple[ast.Expr, ...]
    equal: Equalities
    first: int
    last: int
    slot: int


def places(stage: Sequence) -> list[Place]:
    """All of them, in the order in which an event looks at them."""
    negations = [_never(negation) for negation in stage.negations]
    taking: list[Place] = []
    slot = HEADS
    for number, group in enumerate(stage.groups):
        for item in group.items:
            if number > 0 or (group.every and len(group.items) > 1):
                taking.append(_place("take", item, number, slot))
            if item.many:
                taking.append(_place("more", item, number + 1, slot))
            slot += 1
    return negations + sorted(taking, key=lambda place: (-place.first, place.kind == "more"))


def _never(negation: Negation) -> Place:
    n = negation
    return Place("never", n.event_type, n.conditions, n.equal, n.first, n.last, 0)


def _place(kind: str, item: Item, position: int, slot: int) -> Place:
    return Place(kind, item.event_type, item.conditions, item.equal, position, position, slot)


class _SequenceWriter:
    def __init__(self, writer: StreamWriter, stage: Sequence) -> None:
        self._writer, self._stage = writer, stage
        self._tag = writer.tag(stage)
        self._places = places(stage)
        self._items = {HEADS + i: item for i, item in enumerate(stage.items)}
        self._groups = {
            HEADS + i: number
            for i, number in enumerate(n for n, group in enumerate(stage.groups) for _ in group.items)
        }

    def write(self) -> None:
        writer, tag = self._writer, self._tag
        setup = writer.setup
        setup.add(f"runs{tag} = keepers[{tag!r}]")
        names = [f"place{i}{tag}" for i in range(len(self._places))]
        if names:
            setup.add(f"{', '.join(names)}, = runs{tag}.places")
        for number, event_type in enumerate(writer.inputs, 1):
            writer.entry(number)
            self._entry(event_type)
        first = self._first_position
        positions = range(first, len(self._stage.groups) + self._stage.ripens)
        for position in positions:
            writer.function(f"park{position}{tag}(r)")
            self._park(position)
        parks = ", ".join(f"{position}: park{position}{tag}" for position in positions)
        writer.wiring.add(f"runs{tag}.parks = {{{parks}}}")
        writer.function(f"close{tag}(r)")
        if self._stage.ripens:
            self._complete("", f"r[1] + {self._stage.within_ms}", None, 0)
        else:
            writer.add("return")  # the timer lets go of runs; nothing of them goes on
        writer.function(f"done{tag}(e, ts)")

    @property
    def _first_position(self) -> int:
        """Where a run waits that has just opened: for the rest of the first step, or for the second."""
        first = self._stage.groups[0]
        return 0 if first.every and len(first.items) > 1 else 1

    def _call(self, method: str) -> str:
        """The name of a method of the keeper, made known at its first use."""
        name = f"{method}{self._tag}"
        line = f"{name} = runs{self._tag}.{method}"
        if "    " + line not in self._writer.setup.lines:
            self._writer.setup.add(line)
        return name

    # --- an event

    def _entry(self, event_type: str) -> None:
        writer, tag, stage = self._writer, self._tag, self._stage
        if stage.ripens:
            writer.add(f"for parts in {self._call('over')}(ts):\n    close{tag}(*parts)")
        if stage.keys:
            expressions = ExpressionWriter()
            writer.key("p", [expressions.write(key).text for key in stage.keys])
        opens = [
            (slot, item)
            for slot, item in self._items.items()
            if self._groups[slot] == 0 and item.event_type == event_type
        ]
        here = [(i, place) for i, place in enumerate(self._places) if place.event_type == event_type]
        guards = any(place.kind == "more" and place.first == 1 for _, place in here) and bool(opens)
        if guards:
            writer.add("taken = False")
        if self._twice(event_type):
            writer.add("used = []")
        for number, place in here:
            self._meet(number, place, guards=guards)
        for slot, item in opens:
            self._open(slot, item, guards=guards)
            if not item.conditions and not guards:
                break  # it fits any event, and an event opens one run
            if len(opens) > 1:
                writer.add("    return")

    def _twice(self, event_type: str) -> bool:
        """Whether several parts of one `all` step take this type, so that an event might be taken twice."""
        return any(
            group.every and sum(item.event_type == event_type for item in group.items) > 1
            for group in self._stage.groups
        )

    def _meet(self, number: int, place: Place, *, guards: bool) -> None:
        """The runs that wait in this place, and what the event does to each."""
        writer, tag = self._writer, self._tag
        alone = [c for c in place.conditions if not of_run(c)]
        keyed = [event for event, _ in place.equal]
        depth = self._try_alone(alone, keyed)
        key = self._key(len(keyed))
        writer.add(f"there = place{number}{tag}.get({key})", depth)
        writer.add("if there is not None:", depth)
        writer.add("for r in (there,) if there.__class__ is list else tuple(there.values()):", depth + 1)
        inside = depth + 2
        writer.add(f"if ts - r[1] > {self._stage.within_ms}:\n    continue", inside)
        together = self._conditions(place, exact=len(keyed) == 1)
        if together:
            writer.add("try:", inside)
            writer.add(f"if not ({together}):\n    continue", inside + 1)
            writer.add("except MISMATCH:\n    mismatches += 1\n    continue", inside)
        if place.kind == "never":
            writer.add(f"{self._call('end')}(r)", inside)
        elif place.kind == "more":
            event = self._event(self._items[place.slot])
            writer.add(f"if len(r[{place.slot}]) < {MAX_TAKEN}:", inside)
            writer.add(f"r[{place.slot}].append({event})", inside + 1)
            writer.add(f"else:\n    {self._call('lose')}(1, 'values_dropped')", inside)
            if guards and place.first == 1:
                writer.add("taken = True", inside)
        else:
            self._take(number, place, inside)

    def _try_alone(self, alone: list[ast.Expr], keyed: list[ast.Expr]) -> int:
        """Conditions on the event alone, and its keys; returns how deep the rest stands."""
        if not alone and not keyed:
            return 0
        writer, expressions = self._writer, ExpressionWriter()
        writer.add("try:")
        if alone:
            tests = " and ".join(expressions.boolean(condition) for condition in alone)
            writer.add(f"fits = {tests}", 1)
        for i, event in enumerate(keyed):
            text = expressions.write(event).text
            if alone:
                text = f"{text} if fits else None"
            writer.add(f"k{i} = {text}", 1)
            writer.add(f"if k{i}.__class__ is not str:\n    k{i} = bucket_of(k{i})", 1)
        writer.add("except MISMATCH:\n    mismatches += 1")
        writer.add("else:")
        if not alone:
            return 1
        writer.add("if fits:", 1)
        return 2

    def _key(self, equal: int) -> str:
        """The code of a key in a place: the partition, and what must be equal."""
        parts = ["p"] if self._stage.keys else []
        parts += [f"k{i}" for i in range(equal)]
        return "''" if not parts else parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    def _conditions(self, place: Place, *, exact: bool) -> str:
        """What is left to ask of a run that was found by its key. A text finds only what is equal to it."""
        expressions, tests = ExpressionWriter(), []
        for condition in place.conditions:
            if not of_run(condition):
                continue
            test = expressions.boolean(condition)
            found = [pair for pair in place.equal if _is_equality(condition, pair)]
            if found and exact:
                test = f"(k0.__class__ is str or {test})"
            tests.append(test)
        return " and ".join(tests)

    def _take(self, number: int, place: Place, depth: int) -> None:
        """The run takes the event as one part."""
        writer, tag, slot = self._writer, self._tag, place.slot
        item, group = self._items[slot], self._group(slot)
        if group.every and self._twice(item.event_type):
            writer.add("if any(r is one for one in used):\n    continue\nused.append(r)", depth)
        if not group.every and self._completes(slot):
            writer.add(self._end(number, place), depth)
            self._complete(self._event(item), "ts", slot, depth)
            return
        writer.add(f"r[{slot}] = {self._kept(item)}", depth)
        if group.every:
            others = [other for other in self._slots(slot) if other != slot]
            missing = " or ".join(f"r[{other}] is None" for other in others)
            if others:
                leave = f"{self._call('leave_one')}(r, place{number}{tag})"
                writer.add(f"if {missing}:\n    {leave}\n    continue", depth)
        if self._completes(slot):
            writer.add(f"{self._call('end')}(r)", depth)
            self._complete("", "ts", None, depth)
            return
        position = self._groups[slot] + 1
        writer.add(f"{self._call('leave')}(r)\nr[4] = {position}\npark{position}{tag}(r)", depth)

    def _end(self, number: int, place: Place) -> str:
        """The code that ends a run which an event of this place has completed."""
        if not self._alone(self._waiting(place.first)):
            return f"{self._call('end')}(r)"
        key = self._key(len(place.equal))
        return f"{self._call('end_at')}(r, place{number}{self._tag}, {key}, there)"

    def _open(self, slot: int, item: Item, *, guards: bool) -> None:
        writer = self._writer
        expressions = ExpressionWriter()
        tests = ["not taken"] if guards else []
        tests += [expressions.boolean(condition) for condition in item.conditions]
        depth = 0
        if tests:
            writer.add("try:")
            writer.add(f"fits = {' and '.join(tests)}", 1)
            writer.add("except MISMATCH:\n    mismatches += 1\n    fits = False")
            writer.add("if fits:")
            depth = 1
        position = self._first_position
        slots = [self._kept(item) if other == slot else "None" for other in self._items]
        partition = "p" if self._stage.keys else "''"
        writer.add(f"r = [0, ts, 0, (), {position}, {partition}, {', '.join(slots)}]", depth)
        put = self._call("open") + "(r, now, {})"
        if position == len(self._stage.groups):  # for its time to be over, of which only `open` knows
            self._wait(position, depth, put)
        else:
            self._wait(position, depth, put, self._call("open_at") + "(r, now, {}, {})")

    # --- where a run waits

    def _park(self, position: int) -> None:
        """The function that puts a run where it waits at this position."""
        if self._stage.keys:
            self._writer.add("p = r[5]")
        self._wait(position, 0, self._call("park") + "(r, {})")

    def _wait(self, position: int, depth: int, put: str, put_at: str = "") -> None:
        """Find out where the run waits; `put` is the code that puts it into such places, `put_at` that which
        puts it into a single one, under a key, where there is a better way to do so.
        """
        writer, tag = self._writer, self._tag
        waiting = self._waiting(position)
        if self._alone(waiting):
            number, place = waiting[0]
            depth = self._run_keys(place, depth, put.format("()"))
            at, key = f"place{number}{tag}", self._key(len(place.equal))
            writer.add(put_at.format(at, key) if put_at else put.format(f"(({at}, {key}),)"), depth)
            return
        writer.add("parked = []", depth)
        for number, place in waiting:
            deeper = depth
            if self._begins_partly(place):
                writer.add(f"if r[{place.slot}] is None:", depth)
                deeper += 1
            deeper = self._run_keys(place, deeper, "pass")
            writer.add(f"parked.append((place{number}{tag}, {self._key(len(place.equal))}))", deeper)
        writer.add(put.format("parked"), depth)

    def _waiting(self, position: int) -> list[tuple[int, Place]]:
        """The places, with their numbers, where a run at this position waits."""
        return [(n, p) for n, p in enumerate(self._places) if p.first <= position <= p.last]

    def _alone(self, waiting: list[tuple[int, Place]]) -> bool:
        return len(waiting) == 1 and not self._begins_partly(waiting[0][1])

    def _run_keys(self, place: Place, depth: int, otherwise: str) -> int:
        """The keys by which an event finds this run there; `otherwise`: without them, nothing is equal to it.
        Returns how deep the rest stands.
        """
        if not place.equal:
            return depth
        writer, expressions = self._writer, ExpressionWriter()
        writer.add("try:", depth)
        for i, (_, run) in enumerate(place.equal):
            writer.add(f"k{i} = {expressions.write(run).text}", depth + 1)
            writer.add(f"if k{i}.__class__ is not str:\n    k{i} = bucket_of(k{i})", depth + 1)
        writer.add(f"except MISMATCH:\n    {otherwise}\nelse:", depth)
        return depth + 1

    def _begins_partly(self, place: Place) -> bool:
        return place.kind == "take" and self._group(place.slot).every

    # --- a match

    def _complete(self, event: str, ts: str, slot: int | None, depth: int) -> None:
        """Hand on the match of `r`; `slot`: the part that `event` is, which is not in the run."""
        group = None if slot is None else self._groups[slot]
        parts, optional = [], False
        for at, item in self._items.items():
            if item.name is None or (group is not None and self._groups[at] == group and at != slot):
                continue
            parts.append(f"{item.name!r}: {event if at == slot else f'r[{at}]'}")
            optional = optional or (at != slot and self._is_choice(at))
        record = f"{{{', '.join(parts)}}}"
        if optional:
            record = f"{{name: part for name, part in {record}.items() if part is not None}}"
        self._writer.add(f"done{self._tag}({record}, {ts})", depth)

    def _is_choice(self, slot: int) -> bool:
        group = self._group(slot)
        return not group.every and len(group.items) > 1

    def _completes(self, slot: int) -> bool:
        """Whether a match is complete with the step of this part."""
        return self._groups[slot] == len(self._stage.groups) - 1 and not self._stage.ripens

    def _group(self, slot: int) -> Group:
        return self._stage.groups[self._groups[slot]]

    def _slots(self, slot: int) -> list[int]:
        return [other for other in self._items if self._groups[other] == self._groups[slot]]

    def _kept(self, item: Item) -> str:
        return f"[{self._event(item)}]" if item.many else self._event(item)

    @staticmethod
    def _event(item: Item) -> str:
        """The event as it is kept: with its time, where the program asks for that."""
        code = "e"
        for name in item.times:
            code = f"({code} if {name!r} in e else {{**{code}, {name!r}: ts}})"
        return code


def _is_equality(condition: ast.Expr, pair: tuple[ast.Expr, ast.Expr]) -> bool:
    return isinstance(condition, ast.Binary) and pair in (
        (condition.left, condition.right),
        (condition.right, condition.left),
    )


def _write(writer: StreamWriter, stage: Sequence) -> None:
    _SequenceWriter(writer, stage).write()


KIND = Kind(
    _write,
    "sequence",
    lambda stage, fresh, limit: Runs(stage, len(places(stage)), limit),
    timed=lambda stage: True,
    by_input=True,
)
