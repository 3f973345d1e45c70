"""From a plan to the text of one Python function, `pipeline(out, windows)`, which makes a running pipeline.

Each stream becomes a closure `on_<stream>(e, ts)` over the fields and the time of an event. Its stages
stand in a row; an event that does not pass returns; what a stream makes is handed straight to the streams
that consume it. Each stage evaluates its expressions in one `try` (free when nothing is raised). When a
`where` raises, the event does not pass; when an emitted event raises, its fields are made one by one and
those that raise are left out. Counters are variables of the enclosing function, so that counting costs next
to nothing. An aggregate adds `close_<stream>(k, w)` for the stages after it. See `Program.python` for the
outcome.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vpl import ast
from vpl.aggregates import AGGREGATES, SLOTS
from vpl.expressions import Code, ExpressionWriter
from vpl.plan import (
    Aggregate,
    CountWindow,
    Deliver,
    Emit,
    Fields,
    Filter,
    Plan,
    Project,
    StreamPlan,
    TimeWindow,
)

COUNTERS = ("events_in", "events_out", "mismatches", "unknown_type", "values_dropped")
_GUARD = {"any": "{}", "number": "{}", "float": "float({})", "optional": "{}"}
_CONTENT = {"any": "", "number": "number ", "float": "float ", "optional": ""}
_RESULT_TYPES = {"count": "int", "count_distinct": "int", "collect": "list", "first": "any", "last": "any"}

_HEAD = """\
def pipeline(out, windows):
    {counters} = 0
    now = None

    def partial(parts, e, ts):
        nonlocal mismatches
        made = {{}}
        for name, make in parts:
            try:
                made[name] = make(e, ts)
            except MISMATCH:
                mismatches += 1
        return made
"""
_TAIL = """\

    def process(event_type, fields, ts):
        nonlocal events_in, unknown_type
        events_in += 1
        handler = handler_of(event_type)
        if handler is None:
            unknown_type += 1
        else:
            handler(fields, ts)

    def advance(now_ms):
        nonlocal now
        if now is not None and now_ms > now:
            now = now_ms
        for name, close in timed:
            for k, w in windows[name].expire(now_ms):
                close(k, w)

    def counters():
        return {{{counters}}}

    def set_counters(counters):
        nonlocal {names}
        {setters}

    def clock():
        return now

    def set_clock(ms):
        nonlocal now
        now = ms

    return process, advance, counters, set_counters, clock, set_clock
"""


class _Lines:
    """Python text being written, at an indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self._depth = depth

    def add(self, text: str, depth: int = 0) -> None:
        self.lines += ["    " * (self._depth + depth) + line if line else "" for line in text.split("\n")]


def generate(plan: Plan) -> str:
    """The Python text of a plan."""
    consumers: dict[str, list[str]] = {}
    for stream in plan.streams:
        consumers.setdefault(stream.source, []).append(stream.name)
    plans = window_plans(plan)
    text = f"fresh = {{{', '.join(f'{window.tag!r}: {_fresh(window)}' for window in plans)}}}\n\n\n"
    text += _HEAD.format(counters=" = ".join(COUNTERS))
    for stream in plan.streams:
        text += "\n".join(_StreamWriter(stream, consumers.get(stream.name, [])).write()) + "\n"
    timed = [f"({w.tag!r}, close{w.tag})" for w in plans if isinstance(w.window, TimeWindow)]
    routes = _Lines()
    for event_type, names in consumers.items():
        if len(names) > 1:
            routes.add(f"\ndef feed_{event_type}(e, ts):")
            for name in names:
                routes.add(f"on_{name}(e, ts)", 1)
    pairs = ", ".join(f"{t!r}: {'on_' + n[0] if len(n) == 1 else 'feed_' + t}" for t, n in consumers.items())
    routes.add(f"\nhandler_of = {{{pairs}}}.get")
    routes.add(f"timed = ({''.join(item + ', ' for item in timed)})")
    return (
        text
        + "\n".join(routes.lines)
        + "\n"
        + _TAIL.format(
            counters=", ".join(f"{name!r}: {name}" for name in COUNTERS),
            names=", ".join(COUNTERS),
            setters="\n        ".join(f"{name} = counters[{name!r}]" for name in COUNTERS),
        )
    )


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One aggregate stage of a stream: the n-th (from 1), and what each slot of its windows holds."""

    stream: str
    number: int
    window: CountWindow | TimeWindow
    slots: tuple[str, ...]

    @property
    def tag(self) -> str:
        """What its Python names end in; unique, because the name of a stream does not begin with a digit."""
        return f"{self.number if self.number > 1 else ''}_{self.stream}"

    @property
    def operation(self) -> str:
        """Its name in a checkpoint."""
        return f"window{self.number if self.number > 1 else ''}"


def window_plans(plan: Plan) -> list[WindowPlan]:
    """Every aggregate stage of the program."""
    found = []
    for stream in plan.streams:
        stages = [stage for stage in stream.stages if isinstance(stage, Aggregate)]
        for number, stage in enumerate(stages, 1):
            found.append(WindowPlan(stream.name, number, stage.window, tuple(_WindowLayout(stage).slots)))
    return found


def _fresh(window: WindowPlan) -> str:
    contents = ", ".join(SLOTS[slot.partition(" ")[0]].fresh for slot in window.slots)
    if isinstance(window.window, TimeWindow):
        return f"lambda end, due: [end, due, {contents}]"
    return f"lambda events: [events, {contents}]"


def _counted(body: list[str]) -> list[str]:
    """The declaration of the counters that a function body adds to."""
    used = [name for name in COUNTERS if any(f"{name} += 1" in line for line in body)]
    return [f"        nonlocal {', '.join(used)}"] if used else []


class _WindowLayout:
    """Which arguments an aggregate evaluates for each event, and which slots it keeps of them."""

    def __init__(self, stage: Aggregate) -> None:
        self.arguments: dict[str, str] = {}  # code of the argument -> its variable
        self.slots: dict[str, str] = {}  # what the slot holds -> its code in the window
        self.updates: dict[str, list[str]] = {}  # variable of the argument ("" for none) -> statements
        self.results: dict[int, Code] = {}
        self._first = 1 if isinstance(stage.window, CountWindow) else 2
        for _, result in stage.results:
            for part in ast.walk(result):
                if isinstance(part, ast.Aggregation):
                    self.results[id(part)] = self._place(part)

    def _place(self, part: ast.Aggregation) -> Code:
        if part.arg is None and self._first == 1:
            return Code("w[0]", "int")  # a count window counts its events anyway
        aggregate = AGGREGATES[part.function]
        names = ("events",) if part.arg is None else aggregate.slots
        code = variable = ""
        if part.arg is not None:
            writer = ExpressionWriter()
            needs_number = aggregate.argument in ("number", "float")
            code = writer.number(part.arg) if needs_number else writer.maybe(part.arg)
            code = _GUARD[aggregate.argument].format(code)
            variable = self.arguments.setdefault(code, f"a{len(self.arguments) + 1}")
        # The guard belongs to the content: `count(x)` counts any value, the count of `avg(x)` only numbers.
        content = "" if part.arg is None else f"{_CONTENT[aggregate.argument]}{part.arg!r}"
        content += f" over {part.parameter}" if part.function == "ema" else ""
        places = {name: self._slot(f"{name} {content}".rstrip()) for name in names}
        fills = {**places, "v": variable, "parameter": repr(part.parameter)}
        fills["alpha"] = repr(2 / (part.parameter + 1)) if part.function == "ema" and part.parameter else ""
        statements = self.updates.setdefault(variable, [])
        for name in names:
            statement = SLOTS[name].update.format(**fills)
            if statement and statement not in statements:
                statements.append(statement)
        template = "{events}" if part.arg is None else aggregate.result
        return Code(template.format(**fills), _RESULT_TYPES.get(part.function, "number"))

    def _slot(self, content: str) -> str:
        return self.slots.setdefault(content, f"w[{self._first + len(self.slots)}]")


class _StreamWriter:
    def __init__(self, stream: StreamPlan, consumers: list[str]) -> None:
        self._stream = stream
        self._consumers = consumers
        self._tables_text = _Lines()
        self._functions: list[tuple[str, _Lines]] = []
        self._tables = 0
        self._windows = 0

    def write(self) -> list[str]:
        name = self._stream.name
        self._function(f"on_{name}(e, ts)")
        for stage in self._stream.stages:
            match stage:
                case Filter():
                    self._filter(stage)
                case Project():
                    self._make("e", stage.fields)
                case Emit():
                    self._body.add(f"events_out += 1\nout((-1, {name!r}, e, ts))")
                case Deliver():
                    self._deliver(stage)
                case Aggregate():
                    self._aggregate(stage)
        for consumer in self._consumers:
            self._body.add(f"on_{consumer}(e, ts)")
        lines = ["", *self._tables_text.lines]
        for signature, body in self._functions:
            lines += [f"    def {signature}:", *_counted(body.lines), *(body.lines or ["        pass"]), ""]
        return lines[:-1]

    def _function(self, signature: str) -> None:
        """What is written from now on is the body of this function."""
        self._body = _Lines(depth=2)
        self._functions.append((signature, self._body))

    def _table(self, fields: Iterable[tuple[str, str]], parameters: str) -> str:
        self._tables += 1
        table = f"parts{self._tables}_{self._stream.name}"
        self._tables_text.add(f"{table} = (")
        for name, code in fields:
            self._tables_text.add(f"({name!r}, lambda {parameters}: {code}),", 1)
        self._tables_text.add(")")
        return table

    def _filter(self, stage: Filter) -> None:
        condition = ExpressionWriter().boolean(stage.condition)
        self._body.add(f"try:\n    if not {condition}:\n        return")
        self._body.add("except MISMATCH:\n    mismatches += 1\n    return")

    def _make(self, target: str, fields: Fields) -> None:
        """`target` becomes the event of `fields` of the current event."""
        writer = ExpressionWriter()
        codes = [(name, writer.write(value).text) for name, value in fields]
        self._build(target, codes, "e", "ts")

    def _build(self, target: str, codes: list[tuple[str, str]], *parameters: str) -> None:
        table = self._table(codes, ", ".join(parameters))
        inside = ", ".join(f"{name!r}: {code}" for name, code in codes)
        self._body.add(f"try:\n    {target} = {{{inside}}}")
        self._body.add(f"except MISMATCH:\n    {target} = partial({table}, {', '.join(parameters)})")

    def _deliver(self, stage: Deliver) -> None:
        event = "e"
        if stage.texts:
            writer = ExpressionWriter()
            shown = ", ".join(f"show({writer.write(text).text})" for text in stage.texts)
            self._body.add("try:")
            self._body.add(f"message = {{'message': ' '.join([{shown}])}}", 1)
            self._body.add("except MISMATCH:\n    mismatches += 1\n    message = {}")
            event = "message"
        if stage.fields is not None:
            self._make("fields", stage.fields)
            event = "{**message, **fields}" if stage.texts else "fields"
        self._body.add(f"out(({stage.sink}, {self._stream.name!r}, {event}, ts))")

    # -- windows

    def _aggregate(self, stage: Aggregate) -> None:
        layout = _WindowLayout(stage)
        self._windows += 1
        tag = WindowPlan(self._stream.name, self._windows, stage.window, ()).tag
        timed = isinstance(stage.window, TimeWindow)
        self._tables_text.add(f"open{tag} = windows[{tag!r}].open\nfind{tag} = open{tag}.get")
        self._tables_text.add(f"start{tag} = windows[{tag!r}].{'start_at' if timed else 'start'}")
        self._key(stage)
        self._arguments(layout)
        self._body.add(f"w = find{tag}(k)")
        if timed:
            self._body.add(f"if w is None:\n    w = start{tag}(k, ts, now)")
            self._body.add(f"elif ts >= w[0]:\n    del open{tag}[k]\n    close{tag}(k, w)")
            self._body.add(f"    w = start{tag}(k, ts, now)")
        else:
            self._body.add(f"if w is None:\n    w = start{tag}(k)\nw[0] += 1")
        self._updates(layout)
        if isinstance(stage.window, CountWindow):
            self._body.add(f"if w[0] >= {stage.window.size}:\n    del open{tag}[k]")
            self._body.add(f"    close{tag}(k, w, ts)")
        self._function(f"close{tag}(k, w)" if timed else f"close{tag}(k, w, ts)")
        if timed:
            self._body.add("ts = w[0]")
        writer = ExpressionWriter(aggregates=layout.results)
        part = "value_of(k{})".format
        keys = [(key, part(f"[{i}]" if len(stage.keys) > 1 else "")) for key, i in stage.key_fields]
        results = [(result, writer.write(value).text) for result, value in stage.results]
        self._build("e", [*keys, *results], "k", "w")

    def _key(self, stage: Aggregate) -> None:
        if not stage.keys:
            self._body.add("k = ''")
            return
        writer = ExpressionWriter()
        codes = [writer.write(key).text for key in stage.keys]
        self._body.add("try:")
        if len(codes) == 1:
            self._body.add(f"k = {codes[0]}\nif k.__class__ is not str:\n    k = key_of(k)", 1)
        else:
            self._body.add(f"k = ({', '.join(f'key_of({code})' for code in codes)})", 1)
        self._body.add("except MISMATCH:\n    mismatches += 1\n    return")

    def _arguments(self, layout: _WindowLayout) -> None:
        if not layout.arguments:
            return
        assigned = "\n".join(f"{variable} = {code}" for code, variable in layout.arguments.items())
        variables = [(variable, code) for code, variable in layout.arguments.items()]
        self._body.add("try:")
        self._body.add(assigned, 1)
        self._body.add("except MISMATCH:")
        self._body.add(f"found = partial({self._table(variables, 'e, ts')}, e, ts).get", 1)
        self._body.add("\n".join(f"{variable} = found({variable!r})" for variable, _ in variables), 1)

    def _updates(self, layout: _WindowLayout) -> None:
        """One `try` for each statement: an aggregate that cannot take an event leaves it to the others."""
        for variable, statements in layout.updates.items():
            indent = 1 if variable else 0
            if variable:
                self._body.add(f"if {variable} is not None:")
            for statement in statements:
                self._body.add("try:", indent)
                self._body.add(statement, indent + 1)
                self._body.add("except MISMATCH:\n    mismatches += 1", indent)
