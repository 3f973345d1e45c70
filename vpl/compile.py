"""From a plan to the text of one Python function, `pipeline(out, keepers)`, which makes a running pipeline.

Each stream becomes a closure `on_<stream>(e, ts)` over the fields and the time of an event. Its stages stand
in a row; an event that does not pass returns; what a stream makes is handed straight to the streams that
consume it. Each stage evaluates its expressions in one `try` (free when nothing is raised). When a `where`
raises, the event does not pass; when an emitted event raises, its fields are made one by one and those that
raise are left out. Counters are variables of the enclosing function, so that counting costs next to nothing.
A stage that holds events back adds a function `close...` for the stages after it. Who writes which stage:
`vpl.stages`. See `Program.python` for the outcome.
"""

from vpl.expressions import ExpressionWriter
from vpl.plan import Function, Plan, StreamPlan
from vpl.stages import entry, keeper_plans, kept, kind_of
from vpl.stages.gathering import fold_text
from vpl.writing import COUNTERS, Lines, StreamWriter

_HEAD = """\
def pipeline(out, keepers):
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
        for expire, close in timed:
            for parts in expire(now_ms):
                close(*parts)

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


def generate(plan: Plan) -> str:
    """The Python text of a plan."""
    consumers: dict[str, list[str]] = {}
    for stream in plan.streams:
        for event_type in dict.fromkeys(stream.inputs):
            consumers.setdefault(event_type, []).append(entry(stream, event_type))
    plans = keeper_plans(plan)
    made = ", ".join(f"{kept.tag!r}: {kind_of(kept.stage).fresh(kept.stage)}" for kept in plans)
    text = "".join(map(function_text, plan.functions))
    text += "".join(fold_text(number, fold) for number, fold in enumerate(plan.folds))
    text += f"fresh = {{{made}}}\n\n\n" + _HEAD.format(counters=" = ".join(COUNTERS))
    for stream in plan.streams:
        text += "\n".join(_stream(stream, consumers.get(stream.name, []))) + "\n"
    timed = [
        f"(keepers[{kept.tag!r}].expire, close{kept.tag})"
        for kept in plans
        if kind_of(kept.stage).timed(kept.stage)
    ]
    routes = Lines()
    for event_type, entries in consumers.items():
        if len(entries) > 1:
            routes.add(f"\ndef feed_{event_type}(e, ts):")
            for function in entries:
                routes.add(f"{function}(e, ts)", 1)
    pairs = ", ".join(f"{t!r}: {n[0] if len(n) == 1 else 'feed_' + t}" for t, n in consumers.items())
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


def function_text(function: Function) -> str:
    """The Python function of a function of the program."""
    parameters = ", ".join(f"p_{name}" for name in function.parameters)
    body = ExpressionWriter().write(function.body).text
    return f"def fn_{function.name}({parameters}):\n    return {body}\n\n\n"


def _stream(stream: StreamPlan, consumers: list[str]) -> list[str]:
    writer = StreamWriter(stream.name, stream.inputs, kept(stream))
    if not (stream.stages and kind_of(stream.stages[0]).by_input):
        writer.function(f"on_{stream.name}(e, ts)")
    for stage in stream.stages:
        kind_of(stage).write(writer, stage)
    for consumer in consumers:
        writer.add(f"{consumer}(e, ts)")
    return writer.lines()
