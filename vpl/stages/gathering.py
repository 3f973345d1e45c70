"""What the windows of an aggregate hold, and the code that adds an event to one and reads its results.

Whatever closes a window (`vpl.stages.window`), its content is this: one slot in a list for each thing that an
aggregate remembers, after `first` entries of the window itself.
"""

from vpl import ast
from vpl.aggregates import AGGREGATES, MERGED, SLOTS
from vpl.expressions import Code, ExpressionWriter
from vpl.plan import Aggregate, CountWindow
from vpl.writing import StreamWriter

_GUARD = {"any": "{}", "number": "{}", "float": "float({})", "optional": "{}"}
_CONTENT = {"any": "", "number": "number ", "float": "float ", "optional": ""}
_RESULT_TYPES = {"count": "int", "count_distinct": "int", "collect": "list", "first": "any", "last": "any"}


class WindowLayout:
    """Which arguments an aggregate evaluates for each event, and which slots it keeps of them.

    `panes`: it is put together of panes, so that every slot can be merged (`vpl.merging`).
    `first`: how many entries of the window come before the slots. `counted`: the first entry counts the
    events.
    """

    def __init__(self, stage: Aggregate, first: int, *, counted: bool = False, panes: bool = False) -> None:
        self.arguments: dict[str, str] = {}  # code of the argument -> its variable
        self.slots: dict[str, str] = {}  # what the slot holds -> its code in the window
        self.updates: dict[str, list[str]] = {}  # variable of the argument ("" for none) -> statements
        self.results: dict[int, Code] = {}
        self._first = first
        self._counted = counted
        self._panes = panes
        for _, result in stage.results:
            for part in ast.walk(result):
                if isinstance(part, ast.Aggregation):
                    self.results[id(part)] = self._place(part)

    @property
    def fresh(self) -> str:
        """Python source of the slots of an empty window."""
        return ", ".join(SLOTS[slot.partition(" ")[0]].fresh for slot in self.slots)

    def _place(self, part: ast.Aggregation) -> Code:
        if part.arg is None and self._counted:
            return Code("w[0]", "int")  # a count window counts its events anyway
        name = "ema of numbers" if part.function == "ema" and self._panes else part.function
        aggregate = MERGED.get(name) or AGGREGATES[name]
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
        content += f" over {part.parameter}" if name == "ema" else ""
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


def fold_text(number: int, aggregation: ast.Aggregation) -> str:
    """The Python function of an aggregate over a list of events, written for `Plan.folds`."""
    layout = WindowLayout(Aggregate(CountWindow(1), (), (), (("", aggregation),)), 0)
    lines = [f"def fold_{number}(events):", f"    w = [{layout.fresh}]", "    values_dropped = 0"]
    lines.append("    for e in events:")
    for variable, statements in layout.updates.items():
        depth = "        "
        if variable:
            code = next(code for code, name in layout.arguments.items() if name == variable)
            lines += [f"        try:\n            {variable} = {code}"]
            lines += [f"        except MISMATCH:\n            {variable} = None"]
            lines += [f"        if {variable} is not None:"]
            depth += "    "
        for statement in statements:
            body = statement.replace("\n", f"\n    {depth}")
            lines += [f"{depth}try:\n{depth}    {body}\n{depth}except MISMATCH:\n{depth}    pass"]
    lines.append(f"    return {layout.results[id(aggregation)].text}")
    return "\n".join(lines) + "\n\n\n"


def write_key(writer: StreamWriter, stage: Aggregate) -> None:
    """`k` becomes the key of the event."""
    expressions = ExpressionWriter()
    writer.key("k", [expressions.write(key).text for key in stage.keys])


def write_arguments(writer: StreamWriter, layout: WindowLayout) -> None:
    """The arguments of the aggregates become variables, null where there is no value."""
    if not layout.arguments:
        return
    assigned = "\n".join(f"{variable} = {code}" for code, variable in layout.arguments.items())
    variables = [(variable, code) for code, variable in layout.arguments.items()]
    writer.add("try:")
    writer.add(assigned, 1)
    writer.add("except MISMATCH:")
    writer.add(f"found = partial({writer.table(variables, 'e, ts')}, e, ts).get", 1)
    writer.add("\n".join(f"{variable} = found({variable!r})" for variable, _ in variables), 1)


def write_updates(writer: StreamWriter, layout: WindowLayout) -> None:
    """One `try` for each statement: an aggregate that cannot take an event leaves it to the others."""
    for variable, statements in layout.updates.items():
        indent = 1 if variable else 0
        if variable:
            writer.add(f"if {variable} is not None:")
        for statement in statements:
            writer.add("try:", indent)
            writer.add(statement, indent + 1)
            writer.add("except MISMATCH:\n    mismatches += 1", indent)


def write_results(writer: StreamWriter, stage: Aggregate, layout: WindowLayout) -> None:
    """`e` becomes the event of the key `k` and of what the window `w` holds."""
    expressions = ExpressionWriter(aggregates=layout.results)
    part = "value_of(k{})".format
    keys = [(key, part(f"[{i}]" if len(stage.keys) > 1 else "")) for key, i in stage.key_fields]
    results = [(result, expressions.write(value).text) for result, value in stage.results]
    writer.build("e", [*keys, *results], "k", "w")
