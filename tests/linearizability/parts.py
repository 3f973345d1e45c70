"""Looks for a fault in parts of a history that is too hard as a whole.

Many clients on one key make a search grow beyond its bounds, above all if there is a fault, for then every
order must be tried. Most faults need few values to show: a stale read needs two. So the values are taken a
few at a time, in the order in which they were first named, and the history is searched as if the others had
never been (`Model.forget`). A fault in such a part is a fault of the whole. No fault in any part proves
nothing: the verdict stays open.
"""

import time
from collections.abc import Sequence

from tests.linearizability.history import Operation
from tests.linearizability.model import Model
from tests.linearizability.search import GaveUp, Search

VALUES = 16  # per part; parts overlap by half


def faulty_part(
    operations: Sequence[Operation], model: Model, initial: object, deadline: float
) -> list[Operation] | None:
    """A part that no order explains, or None if none was found in time."""
    by_time = sorted(operations, key=lambda one: one.invoked)
    values = list(dict.fromkeys(value for one in by_time for value in model.mentions(one)))
    for start in range(0, len(values), VALUES // 2):
        if time.monotonic() > deadline:
            return None
        others = frozenset(values[:start] + values[start + VALUES :])
        part = model.forget(by_time, others)
        try:
            if not Search(part, model, initial).run(deadline).linearizable:
                return part
        except GaveUp:
            return None
    return None
