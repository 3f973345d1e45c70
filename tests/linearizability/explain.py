"""Shows why a history is not linearizable: a few operations that stand against each other, drawn over time.

The history is made small first (see `shrink`). The small one is searched again without foresight, so that the
search gets stuck where a person would. Columns are the order of the events, not their distance in time; an
operation of unknown outcome has no right end.
"""

import time
from collections.abc import Sequence

from tests.linearizability.history import Operation
from tests.linearizability.model import Model, NoForesight
from tests.linearizability.search import Found, GaveUp, Search
from tests.linearizability.shrink import shrink

SHRINK_SECONDS = 10.0
_ROWS = 24
_WIDTH = 64
_SEARCH_SECONDS = 2.0


def explain(operations: Sequence[Operation], model: Model, initial: object, of: int) -> str:
    """Why no order explains `operations`, which are of one key, or part of the `of` operations it has."""
    few = shrink(operations, model, initial, SHRINK_SECONDS)
    key = operations[0].key
    lines = [f"{key}: not linearizable. {len(few):,} of {of:,} operations show it:", ""]
    lines += _drawn(few)
    try:
        found = Search(few, model, initial, NoForesight()).run(time.monotonic() + _SEARCH_SECONDS)
    except GaveUp:
        return "\n".join(lines)
    return "\n".join([*lines, "", *_told(found, initial)])


def describe(operation: Operation) -> str:
    """One operation in words."""
    match operation.kind:
        case "read":
            return f"read gave {operation.value!r}"
        case "cas":
            return f"cas {operation.expected!r} to {operation.value!r}"
        case "mismatch":
            return f"cas refused, not {operation.expected!r}"
        case _:
            return f"{operation.kind} {operation.value!r}"


def _told(found: Found, initial: object) -> list[str]:
    placed = found.order[-_ROWS:]
    steps = " / ".join(describe(one) for one in placed) if placed else "nothing"
    lines = [f"It begins as {initial!r}. The longest order that can be explained: {steps}."]
    if found.stuck is not None:
        states = " or ".join(repr(state) for state in found.states)
        stuck = f"process {found.stuck.process}: {describe(found.stuck)}"
        lines.append(f"Orders that get this far leave {states}. None leads on to {stuck}.")
    return lines


def _drawn(operations: Sequence[Operation]) -> list[str]:
    """One row per operation, by invocation; the last rows if there are too many."""
    rows = list(operations)[-_ROWS:]
    lines = (
        [f"  ({len(operations) - len(rows)} earlier ones are not drawn)"]
        if len(rows) < len(operations)
        else []
    )
    column = _columns(rows)
    titles = [f"process {one.process}: {describe(one)}" for one in rows]
    width = max(map(len, titles), default=0)
    for title, one in zip(titles, rows, strict=True):
        left = column[one.invoked]
        if one.returned is None:
            bar = "|" + "-" * (_WIDTH - left - 1) + "?"
        else:
            bar = "|" + "-" * (column[one.returned] - left - 1) + "|" * (one.returned > one.invoked)
        lines.append(f"  {title:<{width}}  {' ' * left}{bar}  {_times(one)}")
    return lines


def _columns(rows: Sequence[Operation]) -> dict[float, int]:
    instants = sorted(
        {one.invoked for one in rows} | {one.returned for one in rows if one.returned is not None}
    )
    step = (_WIDTH - 2) / max(1, len(instants) - 1)
    return {instant: round(rank * step) for rank, instant in enumerate(instants)}


def _times(operation: Operation) -> str:
    end = "unknown" if operation.returned is None else f"{operation.returned:.6g}"
    return f"[{operation.invoked:.6g}, {end}]"
