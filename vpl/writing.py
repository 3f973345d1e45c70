"""The text of one stream's Python functions, as its stages write it, one after the other.

A stage writes into the current function, in which `e` is the fields of the event and `ts` its time; to end
the event's way it writes `return`. A stage that makes an event later (when a window closes) begins a function
of its own with `function(...)`; what the stages after it write goes there. Every function declares the
counters that it adds to by itself.

A stream over several types has one function for all of them, `on_<stream>`, unless its first stage tells them
apart (`Kind.by_input`): then the events of the n-th input arrive in `on<n>_<stream>`.
"""

from collections.abc import Iterable

from vpl.expressions import ExpressionWriter
from vpl.keeper import KeeperPlan
from vpl.plan import Fields, Stage

COUNTERS = ("events_in", "events_out", "mismatches", "unknown_type", "values_dropped")


class Lines:
    """Python text being written, at an indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self._depth = depth

    def add(self, text: str, depth: int = 0) -> None:
        self.lines += ["    " * (self._depth + depth) + line if line else "" for line in text.split("\n")]


class StreamWriter:
    """What the writers of stages write with. `inputs`: the types the stream takes, in order."""

    def __init__(self, name: str, inputs: tuple[str, ...], plans: Iterable[KeeperPlan]) -> None:
        self.name = name
        self.inputs = inputs
        self.body = Lines(depth=2)
        self.setup = Lines()
        """What runs once, when the pipeline is made, before the functions are defined."""
        self.wiring = Lines()
        """What runs once, when the functions are defined."""
        self._functions: list[tuple[str, Lines]] = []
        self._tables = 0
        self._plans = {id(plan.stage): plan for plan in plans}

    def tag(self, stage: Stage) -> str:
        """What the Python names of this stage end in; `keepers[tag]` is its keeper."""
        return self._plans[id(stage)].tag

    def function(self, signature: str) -> None:
        """What is written from now on is the body of this function."""
        self.body = Lines(depth=2)
        self._functions.append((signature, self.body))

    def entry(self, number: int) -> None:
        """What is written from now on takes the events of the `number`-th input (from 1)."""
        self.function(f"on{number}_{self.name}(e, ts)")

    def add(self, text: str, depth: int = 0) -> None:
        """Write into the current function."""
        self.body.add(text, depth)

    def table(self, fields: Iterable[tuple[str, str]], parameters: str) -> str:
        """The name of a table of functions of `parameters`, one for each (name, code)."""
        self._tables += 1
        table = f"parts{self._tables}_{self.name}"
        self.setup.add(f"{table} = (")
        for name, code in fields:
            self.setup.add(f"({name!r}, lambda {parameters}: {code}),", 1)
        self.setup.add(")")
        return table

    def make(self, target: str, fields: Fields) -> None:
        """`target` becomes the event of `fields` of the current event."""
        writer = ExpressionWriter()
        self.build(target, [(name, writer.write(value).text) for name, value in fields], "e", "ts")

    def build(self, target: str, codes: list[tuple[str, str]], *parameters: str) -> None:
        """`target` becomes a map of the codes; when one raises, each is tried alone, with two parameters."""
        table = self.table(codes, ", ".join(parameters))
        inside = ", ".join(f"{name!r}: {code}" for name, code in codes)
        self.add(f"try:\n    {target} = {{{inside}}}")
        self.add(f"except MISMATCH:\n    {target} = partial({table}, {', '.join(parameters)})")

    def guarded(self, statement: str) -> None:
        """A statement after whose mismatch the event goes no further."""
        self.add("try:")
        self.add(statement, 1)
        self.add("except MISMATCH:\n    mismatches += 1\n    return")

    def key(self, variable: str, codes: list[str]) -> None:
        """`variable` becomes the key of these values; without value the event goes no further."""
        if not codes:
            self.add(f"{variable} = ''")
        elif len(codes) == 1:
            v = variable
            self.guarded(f"{v} = {codes[0]}\nif {v}.__class__ is not str:\n    {v} = key_of({v})")
        else:
            self.guarded(f"{variable} = ({', '.join(f'key_of({code})' for code in codes)})")

    def lines(self) -> list[str]:
        """The text of the stream."""
        lines = ["", *self.setup.lines]
        for signature, body in self._functions:
            lines += [f"    def {signature}:", *_counted(body.lines), *(body.lines or ["        pass"]), ""]
        return [*lines[:-1], *self.wiring.lines]


def _counted(body: list[str]) -> list[str]:
    """The declaration of the counters that a function body adds to."""
    used = [name for name in COUNTERS if any(f"{name} += 1" in line for line in body)]
    return [f"        nonlocal {', '.join(used)}"] if used else []
