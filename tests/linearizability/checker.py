"""Judges whether a history is linearizable.

Linearizability is local (Herlihy and Wing, 1990): a history is linearizable if and only if the history of
each object is. Keys are objects, so each is searched by itself, shortest history first, and they share one
deadline. A verdict has three values: a search that ran out of time has shown nothing, and says so.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.linearizability.explain import explain
from tests.linearizability.history import Operation
from tests.linearizability.model import Model, Register
from tests.linearizability.parts import faulty_part
from tests.linearizability.search import GaveUp, Search

_ROUNDS = 2  # what the easy keys left of their time, the hard ones get in the second


@dataclass(frozen=True)
class Verdict:
    """`ok` is True or False, or None if the search gave up. `key` is the one at fault, or given up on."""

    ok: bool | None
    key: str | None
    explanation: str


def check(
    operations: Sequence[Operation],
    *,
    initial: object = None,
    deadline_seconds: float = 30.0,
    model: Model | None = None,
) -> Verdict:
    """Whether each key has an order of its operations in which a `model` begun as `initial` answers so.

    The model is a `Register` unless given. The first key at fault ends the search; to explain it takes up to
    12 seconds more.
    """
    deadline = time.monotonic() + deadline_seconds
    model = Register() if model is None else model
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    waiting = sorted(by_key, key=lambda key: (len(by_key[key]), key))
    configurations, why = 0, ""
    for _ in range(_ROUNDS):
        undecided: list[str] = []
        for done, key in enumerate(waiting):
            now = time.monotonic()
            share = (deadline - now) / (len(waiting) - done)
            try:
                found = Search(by_key[key], model, initial).run(now + share / 2)
            except GaveUp as reason:
                part = faulty_part(by_key[key], model, initial, now + share)
                if part is not None:
                    return Verdict(False, key, explain(part, model, initial, of=len(by_key[key])))
                undecided.append(key)
                why = f"{key}: {reason}"
                continue
            if not found.linearizable:
                return Verdict(False, key, explain(by_key[key], model, initial, of=len(by_key[key])))
            configurations += found.configurations
        waiting = undecided
    if waiting:
        return Verdict(None, waiting[-1], f"undecided for {len(waiting)} of {len(by_key)} keys; {why}")
    counted = f"{len(operations):,} operations on {len(by_key)} keys, {configurations:,} configurations"
    return Verdict(True, None, f"linearizable: {counted}")
