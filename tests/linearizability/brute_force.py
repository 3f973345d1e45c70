"""The definition, tried out: every order of every choice of unknown operations. For histories of up to seven
operations.

It shares nothing with the search but the model, so where the two agree on thousands of histories neither is
likely to be wrong.
"""

import math
from collections.abc import Sequence
from itertools import combinations, permutations

from tests.linearizability.history import Operation
from tests.linearizability.model import Model


def linearizable(operations: Sequence[Operation], model: Model, initial: object = None) -> bool:
    """Whether some order explains the history of one key."""
    known = [one for one in operations if one.returned is not None]
    unknown = [one for one in operations if one.returned is None and one.kind not in model.reads]
    return any(
        _explains(order, model, initial)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*known, *chosen])
    )


def _explains(order: Sequence[Operation], model: Model, state: object) -> bool:
    latest = -math.inf
    for operation in order:
        if operation.returned is not None and operation.returned < latest:
            return False  # something later in the order was invoked after this had returned
        latest = max(latest, operation.invoked)
        legal, state = model.step(state, operation)
        if not legal:
            return False
    return True
