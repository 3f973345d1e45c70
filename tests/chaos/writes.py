"""Writes, each under an idempotency key and through any node until it is answered; and what they add up to.

`Desired` is what the acknowledged ones add up to. A write that was not answered definitely yet is neither in
it nor out of it: the calm waits until there is none.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proto_schemas.rest.base import API_BASE
from tests.chaos.groups import Spec
from tests.support.linked import Cluster

_ASK: Final = 4.0
"""Seconds one node is given to answer."""
_BACKOFF: Final = (0.05, 1.0)
_AGAIN: Final = frozenset({429, 502, 503, 504})
_REPEATED: Final = 0.25
"""Of the writes that were acknowledged, how many are sent once more."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write. `key`: the same in each attempt; `what`: for people."""

    method: str
    path: str
    body: Any
    key: str
    what: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The first definite one."""

    status: int
    body: dict[str, Any]

    @property
    def acknowledged(self) -> bool:
        return self.status < 300


@dataclass
class Desired:
    """The groups that must be there."""

    groups: dict[str, Spec] = field(default_factory=dict)
    former: dict[str, list[Spec]] = field(default_factory=dict)
    """What each was before its updates: to one of them it may have been rolled back."""

    def created(self, name: str, spec: Spec) -> None:
        self.groups[name], self.former[name] = spec, []

    def updated(self, name: str, spec: Spec) -> None:
        self.former[name].append(self.groups[name])
        self.groups[name] = spec

    def may_be(self, name: str, spec: Spec) -> bool:
        """The group may be this already, so that an update to it changes nothing."""
        return spec in (self.groups.get(name), *self.former.get(name, ()))

    def settle(self, name: str, spec: Spec) -> None:
        """It has come to be this, and all updates have ended."""
        self.groups[name], self.former[name] = spec, []


class Writes:
    """Sends writes.

    Attributes:
        pending: those without a definite answer, by key.
        outcomes: how they ended, by kind and status.
        attempts: how often was asked in all.
        keys, done: how many keys were sent, and how many of them acknowledged, by kind.
        unchanged: of those, how many may have asked for what was there already.
    """

    def __init__(self, cluster: Cluster, rng: random.Random, tell: Callable[[str], None]) -> None:
        self._cluster, self._rng, self._tell = cluster, rng, tell
        self.desired = Desired()
        self.pending: dict[str, Write] = {}
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.keys: Counter[str] = Counter()
        self.attempts = 0
        self.complaints: list[str] = []
        self.done: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()

    async def send(self, write: Write) -> Answer:
        """Ask one node after the other until one answers definitely; some are asked once more afterwards."""
        self.pending[write.key] = write
        kind = write.what.split()[0]
        self.keys[kind] += 1
        pause, longest = _BACKOFF
        while (answer := await self._ask(write)) is None:
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(pause * 2, longest)
        del self.pending[write.key]
        self.outcomes[kind, answer.status] += 1
        self.done[kind] += answer.acknowledged
        if answer.acknowledged and self._rng.random() < _REPEATED:
            again = await self._ask(write)
            if again is not None and not again.acknowledged and not _overtaken(again):
                self.complaints.append(
                    f"{write.what}: {answer.status} first, then {again.status} {again.body}"
                )
        return answer

    async def _ask(self, write: Write) -> Answer | None:
        self.attempts += 1
        node = self._rng.choice(self._cluster.nodes)
        body = None if write.body is None else msgspec.json.encode(write.body)
        answer = await self._cluster.ask(
            node, write.method, API_BASE + write.path, body, timeout=_ASK, key=write.key
        )
        if answer is None or answer.status in _AGAIN:
            return None
        found = msgspec.json.decode(answer.content) if answer.content else {}
        if answer.status >= 500 or answer.status in (400, 422):
            self.complaints.append(f"{write.what} through {node.id}: {answer.status} {str(found)[:300]}")
        return Answer(answer.status, found)


def _overtaken(answer: Answer) -> bool:
    """Its effect was undone since, by a later write."""
    return answer.status == 409 and "since" in str(answer.body.get("error"))
