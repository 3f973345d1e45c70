"""Clients that read and write registers through random coordinators, and write down what they saw.

A few keys are in use at a time, so that clients meet on them, and make room for new ones every few seconds:
a write with an unknown outcome stays concurrent with everything that follows on its key, so a key that is
used for an hour could not be checked. Every key is read once more at the end, through every coordinator.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from tests.jepsen.client import Answer, Client, Refused, Took, Unknown
from tests.linearizability.history import Recorder

_READS: Final = 0.45
_REMOVALS: Final = 0.07
_REPETITIONS: Final = 3
_PATIENCE: Final = 5
"""How many times the usual pause a client waits after a refusal."""


class _Send(Protocol):
    async def __call__(self, url: str, /, *, request: str) -> Answer: ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the cluster is used."""

    clients: int = 10
    """Each asks any coordinator. Beside them one client stays with each coordinator: when one coordinator
    hangs, all who roam soon hang at it, and only those tell whether the others still serve.
    """
    keys: int = 6
    """In use at a time."""
    key_seconds: float = 10.0
    """After which they make room for new ones."""
    pause: float = 0.04
    """Seconds between two requests of a client, on average."""
    consistency: str = "linearizable"
    """What reads ask for; `stale` breaks the promise on purpose."""


class Notes:
    """The history, what became of each request, and when a write was last acknowledged."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.recorder = Recorder(clock)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.acknowledged: list[float] = []
        """When writes were acknowledged, in order."""

    def last_acknowledged(self) -> float:
        """When a write was last acknowledged."""
        return self.acknowledged[-1] if self.acknowledged else float("-inf")

    def end(self, token: int, what: str, answer: Answer) -> None:
        """Write down how a request ended."""
        self.outcomes[what, type(answer).__name__.lower()] += 1
        if isinstance(answer, Took):
            self.recorder.ok(token, answer.value)
            if what != "read":
                self.acknowledged.append(self.clock())
        elif isinstance(answer, Refused):
            self.recorder.fail(token)
        else:
            self.recorder.unknown(token)


class Workload:
    """Clients of the coordinators that are at `urls()` now; `run` until `stop`."""

    def __init__(
        self,
        urls: Callable[[], Sequence[str]],
        client: Client,
        notes: Notes,
        settings: Settings,
        seed: int,
    ) -> None:
        self._urls, self._client, self._notes, self._settings = urls, client, notes, settings
        self._seed = seed
        self._processes = itertools.count()
        self._values = itertools.count(1)
        self._began = notes.clock()
        self._stopping = False
        self._keys: dict[str, None] = {}

    async def run(self) -> None:
        """Ask until `stop`, and let every request come to its end."""
        async with asyncio.TaskGroup() as clients:
            for number in range(self._settings.clients):
                clients.create_task(self._live(random.Random(f"{self._seed}/{number}")))
            for place in range(len(self._urls())):
                clients.create_task(self._live(random.Random(f"{self._seed}/at/{place}"), place))

    def stop(self) -> None:
        self._stopping = True

    async def read_all(self, url: str) -> bool:
        """Read every key there ever was through one coordinator, as one read of each; whether that was
        answered.
        """
        process, recorder = next(self._processes), self._notes.recorder
        tokens = {key: recorder.invoke(process, key, "read") for key in self._keys}
        found = await self._client.read_all(url)
        for key, token in tokens.items():
            self._notes.end(token, "read", Took(found.get(key)) if isinstance(found, dict) else found)
        return isinstance(found, dict)

    async def _live(self, rng: random.Random, place: int | None = None) -> None:
        process = next(self._processes)
        while not self._stopping:
            url = rng.choice(self._urls()) if place is None else self._urls()[place]
            answer = await self._ask(rng, url, process)
            if isinstance(answer, Unknown):
                process = next(self._processes)
            pause = self._settings.pause * (_PATIENCE if isinstance(answer, Refused) else 1)
            await asyncio.sleep(rng.uniform(0, 2 * pause))

    async def _ask(self, rng: random.Random, url: str, process: int) -> Answer:
        client, recorder = self._client, self._notes.recorder
        key, choice = self._key(rng), rng.random()
        if choice < _READS:
            what, token = "read", recorder.invoke(process, key, "read")
            answer = await client.read(url, key, consistency=self._settings.consistency)
        elif choice < _READS + _REMOVALS:
            what, token = "remove", recorder.invoke(process, key, "write", None)
            answer = await self._insist(rng, url, partial(client.remove, key=key))
        else:
            value = f"{key}={next(self._values)}"
            what, token = "write", recorder.invoke(process, key, "write", value)
            answer = await self._insist(rng, url, partial(client.write, key=key, value=value))
        self._notes.end(token, what, answer)
        return answer

    async def _insist(self, rng: random.Random, url: str, send: _Send) -> Answer:
        """Send a write; at times repeat it under the same Idempotency-Key, anywhere, while nobody knows what
        became of it. However often it is sent, it counts as one write.
        """
        request = uuid.uuid4().hex
        answer = await send(url, request=request)
        tries = rng.choice((0, _REPETITIONS))
        while tries and isinstance(answer, Unknown) and not self._stopping:
            tries -= 1
            again = await send(rng.choice(self._urls()), request=request)
            if isinstance(again, Took):
                self._notes.outcomes["repeated", "took"] += 1
                answer = again
        return answer

    def _key(self, rng: random.Random) -> str:
        settings = self._settings
        generation = int((self._notes.clock() - self._began) / settings.key_seconds)
        key = f"k{generation}-{rng.randrange(settings.keys)}"
        self._keys[key] = None
        return key
