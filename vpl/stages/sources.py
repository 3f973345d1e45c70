"""Stages that make the events of their stream: a timer, and pairs of a join."""

from vpl.expressions import ExpressionWriter
from vpl.pairs import Pairs
from vpl.passed import Ticks
from vpl.plan import Join, Timer
from vpl.stages.kind import Kind
from vpl.writing import StreamWriter


def _timer(writer: StreamWriter, stage: Timer) -> None:
    writer.function(f"close{writer.tag(stage)}(ts)")
    writer.add("e = {}")


def _join(writer: StreamWriter, stage: Join) -> None:
    tag = writer.tag(stage)
    writer.setup.add(f"meet{tag} = keepers[{tag!r}].meet")
    left, right = writer.inputs
    for side, (a, b) in enumerate((("e", "found"), ("found", "e"))):
        writer.entry(side + 1)
        expressions = ExpressionWriter()
        writer.key("k", [expressions.write(key).text for key in stage.keys[side]])
        writer.add(f"for found, at in meet{tag}({side}, k, ts, e, now):")
        writer.add(f"    pair{tag}({{{left!r}: {a}, {right!r}: {b}}}, at)")
    writer.function(f"pair{tag}(e, ts)")
    # The timer lets go of events; nothing of it goes on.
    writer.setup.add(f"def close{tag}():\n    return")


TIMER = Kind(
    _timer,
    "timer",
    lambda stage, fresh, limit: Ticks(stage.period_ms),
    timed=lambda stage: True,
    by_input=True,
)
JOIN = Kind(
    _join,
    "join",
    lambda stage, fresh, limit: Pairs(stage.within_ms, limit),
    timed=lambda stage: True,
    by_input=True,
)
