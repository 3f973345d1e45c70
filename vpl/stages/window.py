"""Aggregates: the code that finds, opens and closes the window of an event.

The windows of a stage are in a dict by key, which the code uses directly: an event costs one look-up,
whatever its window. What differs from window to window is in `Shape`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vpl.eventtime import EventWindows
from vpl.keeper import Keeper
from vpl.moving import Sessions, SlidingCount, SlidingTime
from vpl.plan import Aggregate, CountWindow, EventTime, Session, TimeWindow
from vpl.plan import SlidingCount as EveryFewEvents
from vpl.plan import SlidingTime as EveryFewSeconds
from vpl.stages.gathering import WindowLayout, write_arguments, write_key, write_results, write_updates
from vpl.stages.kind import Kind
from vpl.windows import TimeWindows, Windows
from vpl.writing import StreamWriter

Write = Callable[[StreamWriter, str, Any], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of window.

    `heads`: the entries before the slots, and the parameters of what makes an empty one. `find` writes the
    code after which `w` is the window (or pane) of the event, `after` that which follows its update. `keep`
    takes (slots, fresh, limit, window). What closes is called with (key, window, time).
    """

    heads: str
    find: Write
    after: Write | None
    keep: Callable[..., Keeper]
    timed: bool = True
    panes: bool = False

    def layout(self, stage: Aggregate) -> WindowLayout:
        heads = self.heads.split(", ")
        return WindowLayout(stage, len(heads), counted=heads == ["events"], panes=self.panes)


def _find_count(writer: StreamWriter, tag: str, window: Any) -> None:
    writer.setup.add(f"open{tag} = keepers[{tag!r}].open\nfind{tag} = open{tag}.get")
    writer.setup.add(f"start{tag} = keepers[{tag!r}].start")
    writer.add(f"w = find{tag}(k)\nif w is None:\n    w = start{tag}(k)\nw[0] += 1")


def _after_count(writer: StreamWriter, tag: str, window: CountWindow) -> None:
    writer.add(f"if w[0] >= {window.size}:\n    del open{tag}[k]\n    close{tag}(k, w, ts)")


def _find_time(writer: StreamWriter, tag: str, window: Any) -> None:
    writer.setup.add(f"open{tag} = keepers[{tag!r}].open\nfind{tag} = open{tag}.get")
    writer.setup.add(f"start{tag} = keepers[{tag!r}].start_at")
    writer.add(f"w = find{tag}(k)\nif w is None:\n    w = start{tag}(k, ts, now)")
    writer.add(f"elif ts >= w[0]:\n    del open{tag}[k]\n    close{tag}(k, w, w[0])")
    writer.add(f"    w = start{tag}(k, ts, now)")


def _find_session(writer: StreamWriter, tag: str, window: Session) -> None:
    _find_time(writer, tag, window)
    gap = window.gap_ms
    writer.add(f"else:\n    if ts + {gap} > w[0]:\n        w[0] = ts + {gap}")
    writer.add(f"    due = (ts if now is None else now) + {gap}\n    if due > w[1]:\n        w[1] = due")


def _after_sliding_count(writer: StreamWriter, tag: str, window: EveryFewEvents) -> None:
    writer.setup.add(f"full{tag} = keepers[{tag!r}].full\npane{tag} = keepers[{tag!r}].pane")
    writer.add(f"if w[0] >= pane{tag}:\n    w = full{tag}(k)")
    writer.add(f"    if w is not None:\n        close{tag}(k, w, ts)")


def _find_sliding_time(writer: StreamWriter, tag: str, window: EveryFewSeconds) -> None:
    writer.setup.add(f"open{tag} = keepers[{tag!r}].open\nfind{tag} = open{tag}.get")
    writer.setup.add(f"turn{tag} = keepers[{tag!r}].turn")
    writer.add(f"w = find{tag}(k)\nif w is None or ts >= w[0]:")
    writer.add(f"    for parts in turn{tag}(k, ts, now):\n        close{tag}(*parts)\n    w = open{tag}[k]")


def _find_event_time(writer: StreamWriter, tag: str, window: EventTime) -> None:
    writer.setup.add(f"windows{tag} = keepers[{tag!r}]\nfind{tag} = windows{tag}.open.get")
    writer.setup.add(f"seen{tag} = windows{tag}.seen\nwidth{tag} = windows{tag}.width")
    writer.setup.add(f"pane{tag} = windows{tag}.pane\ncorrected{tag} = windows{tag}.corrected")
    writer.add(f"for parts in seen{tag}(ts if now is None or ts < now else now):\n    close{tag}(*parts)")
    writer.add(f"w = find{tag}((k, ts - ts % width{tag}))\nif w is None:\n    w = pane{tag}(k, ts, now)")
    writer.add("    if w is None:\n        return")


def _after_event_time(writer: StreamWriter, tag: str, window: EventTime) -> None:
    writer.add(f"if w[0] <= windows{tag}.watermark:")
    writer.add(f"    for parts in corrected{tag}(k, ts):\n        close{tag}(*parts)")


def _event_windows(slots: Any, fresh: Any, limit: int, w: EventTime) -> Keeper:
    shape = (w.size_ms, w.slide_ms, w.out_of_order_ms, w.lateness_ms)
    return EventWindows(slots, fresh, limit, shape)


SHAPES: dict[type, Shape] = {
    CountWindow: Shape("events", _find_count, _after_count, lambda s, f, n, w: Windows(s, f, n), timed=False),
    TimeWindow: Shape("end, due", _find_time, None, lambda s, f, n, w: TimeWindows(s, f, n, w.size_ms)),
    Session: Shape("end, due", _find_session, None, lambda s, f, n, w: Sessions(s, f, n, w.gap_ms)),
    EveryFewEvents: Shape(
        "events",
        _find_count,
        _after_sliding_count,
        lambda s, f, n, w: SlidingCount(s, f, n, w.size, w.slide),
        timed=False,
        panes=True,
    ),
    EveryFewSeconds: Shape(
        "end",
        _find_sliding_time,
        None,
        lambda s, f, n, w: SlidingTime(s, f, n, w.size_ms, w.slide_ms),
        panes=True,
    ),
    EventTime: Shape("end", _find_event_time, _after_event_time, _event_windows, panes=True),
}


def _shape(stage: Aggregate) -> Shape:
    return SHAPES[type(stage.window)]


def _fresh(stage: Aggregate) -> str:
    heads = _shape(stage).heads
    return f"lambda {heads}: [{heads}, {_shape(stage).layout(stage).fresh}]"


def _keep(stage: Aggregate, fresh: Any, limit: int) -> Keeper:
    shape = _shape(stage)
    return shape.keep(tuple(shape.layout(stage).slots), fresh, limit, stage.window)


def _write(writer: StreamWriter, stage: Aggregate) -> None:
    shape, tag = _shape(stage), writer.tag(stage)
    layout = shape.layout(stage)
    write_key(writer, stage)
    write_arguments(writer, layout)
    shape.find(writer, tag, stage.window)
    write_updates(writer, layout)
    if shape.after is not None:
        shape.after(writer, tag, stage.window)
    writer.function(f"close{tag}(k, w, ts)")
    write_results(writer, stage, layout)


KIND = Kind(_write, "window", _keep, _fresh, lambda stage: _shape(stage).timed)
