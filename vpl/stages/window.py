"""Aggregates over tumbling windows: the code that finds, opens and closes the window of an event.

The windows of a stage are in a dict by key (`vpl.windows`), which the code uses directly: an event costs one
look-up, whatever its window. A time window closes before the first event at or after its end, or by the
timer; a count window with its last event.
"""

from typing import Any

from vpl.keeper import Keeper
from vpl.plan import Aggregate, CountWindow, TimeWindow
from vpl.stages.gathering import WindowLayout, write_arguments, write_key, write_results, write_updates
from vpl.stages.kind import Kind
from vpl.windows import TimeWindows, Windows
from vpl.writing import StreamWriter


def _layout(stage: Aggregate) -> WindowLayout:
    counted = isinstance(stage.window, CountWindow)
    return WindowLayout(stage, 1 if counted else 2, counted=counted)


def _fresh(stage: Aggregate) -> str:
    heads = "end, due" if isinstance(stage.window, TimeWindow) else "events"
    return f"lambda {heads}: [{heads}, {_layout(stage).fresh}]"


def _keep(stage: Aggregate, fresh: Any, limit: int) -> Keeper:
    slots = tuple(_layout(stage).slots)
    if isinstance(stage.window, TimeWindow):
        return TimeWindows(slots, fresh, limit, stage.window.size_ms)
    return Windows(slots, fresh, limit)


def _timed(stage: Aggregate) -> bool:
    return isinstance(stage.window, TimeWindow)


def _write(writer: StreamWriter, stage: Aggregate) -> None:
    layout, tag, timed = _layout(stage), writer.tag(stage), _timed(stage)
    writer.setup.add(f"open{tag} = keepers[{tag!r}].open\nfind{tag} = open{tag}.get")
    writer.setup.add(f"start{tag} = keepers[{tag!r}].{'start_at' if timed else 'start'}")
    write_key(writer, stage)
    write_arguments(writer, layout)
    writer.add(f"w = find{tag}(k)")
    if timed:
        writer.add(f"if w is None:\n    w = start{tag}(k, ts, now)")
        writer.add(f"elif ts >= w[0]:\n    del open{tag}[k]\n    close{tag}(k, w)")
        writer.add(f"    w = start{tag}(k, ts, now)")
    else:
        writer.add(f"if w is None:\n    w = start{tag}(k)\nw[0] += 1")
    write_updates(writer, layout)
    if isinstance(stage.window, CountWindow):
        writer.add(f"if w[0] >= {stage.window.size}:\n    del open{tag}[k]")
        writer.add(f"    close{tag}(k, w, ts)")
    writer.function(f"close{tag}(k, w)" if timed else f"close{tag}(k, w, ts)")
    if timed:
        writer.add("ts = w[0]")
    write_results(writer, stage, layout)


KIND = Kind(_write, "window", _keep, _fresh, _timed)
