"""The search gives the verdict that trying every order gives, on thousands of small histories."""

import random
from collections import Counter

import pytest

from tests.linearizability.brute_force import linearizable
from tests.linearizability.checker import check
from tests.linearizability.history import Operation
from tests.linearizability.model import AppendOnlyList, Model, Register

HISTORIES = 1000


def register_operation(draw: random.Random, process: int, fresh: int | None) -> Operation:
    values = [None, 1, 2]
    kind = draw.choice(["read", "read", "read", "write", "write", "cas", "cas", "mismatch"])
    changes = kind in ("write", "cas")
    value = draw.choice([1, 2, 3]) if fresh is None else fresh if changes else draw.choice([None, 1, 2, 3, 4])
    expected = draw.choice(values) if kind in ("cas", "mismatch") else None
    invoked = float(draw.randrange(8))
    returned = None if changes and draw.random() < 0.4 else invoked + draw.randrange(5)
    return Operation(process, "k", kind, value, expected=expected, invoked=invoked, returned=returned)


def list_operation(draw: random.Random, process: int, fresh: int | None) -> Operation:
    kind = draw.choice(["append", "read"])
    value: object = process
    if kind == "read":
        value = tuple(draw.sample(range(4), draw.randrange(4)))
    invoked = float(draw.randrange(8))
    returned = None if kind == "append" and draw.random() < 0.4 else invoked + draw.randrange(6)
    return Operation(process, "k", kind, value, invoked=invoked, returned=returned)


@pytest.mark.parametrize("unique", [False, True], ids=["repeated-values", "unique-values"])
@pytest.mark.parametrize("seed", range(4))
def test_a_register_gets_the_verdict_of_trying_every_order(unique: bool, seed: int) -> None:
    draw = random.Random(seed * 2 + unique)
    verdicts: Counter[bool] = Counter()
    for _ in range(HISTORIES):
        length = draw.randint(2, 6)
        history = [register_operation(draw, i, i + 1 if unique else None) for i in range(length)]
        initial = draw.choice([None, 1])
        expected = linearizable(history, Register(), initial)
        assert check(history, initial=initial).ok is expected, history
        verdicts[expected] += 1
    assert min(verdicts[True], verdicts[False]) > HISTORIES // 10, "both verdicts must be common"


def test_a_list_gets_the_verdict_of_trying_every_order() -> None:
    draw = random.Random(7)
    model: Model = AppendOnlyList()
    verdicts: Counter[bool] = Counter()
    for _ in range(HISTORIES):
        history = [list_operation(draw, i, None) for i in range(draw.randint(1, 5))]
        expected = linearizable(history, model)
        assert check(history, model=model).ok is expected, history
        verdicts[expected] += 1
    assert min(verdicts[True], verdicts[False]) > HISTORIES // 20
