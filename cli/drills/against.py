"""Drills on a cluster that runs elsewhere: only what its API can do, and load only through its API.

A group of our own gets numbered events by `inject`, whose answers hold what came out, and a connector of our
own is changed again and again, which is a write. Both have names that nobody else has and are removed at the
end, also after Ctrl-C. What is done to leaders and workers is real: others feel it.
"""

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from cli.client import ClusterClient
from cli.drills.catalog import Played
from cli.drills.figures import Objective, lost_and_doubled
from cli.drills.load import Load
from cli.errors import CliError

Clients = Callable[[], ClusterClient]
"""Makes a client of the cluster; each thread has its own."""
_PROGRAM: Final = "stream All = Tick.where(n >= 0).emit(n: n)\n"
_PAUSE_S: Final = 0.05
_LOOK_S: Final = 0.02
_CALM_S: Final = 1.0
_WITHIN_S: Final = 60.0


@dataclass
class Calls:
    """Requests of one kind: begin and end of the answered ones, and how many failed."""

    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    def longest_since(self, moment: float) -> float | None:
        """Seconds of the longest request that ended after `moment`; `None`: there is none."""
        return max((end - begun for begun, end in list(self.answered) if end > moment), default=None)


@dataclass
class Elsewhere:
    """Our group and our connector on that cluster, by one name, and what the load saw."""

    client: ClusterClient
    name: str
    writes: Calls = field(default_factory=Calls)
    events: Calls = field(default_factory=Calls)
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)

    def host(self) -> str:
        """The worker that runs our pipeline."""
        return str(self.client.get(f"/pipeline-groups/{self.name}")["placements"][0]["worker_id"])

    def write(self, client: ClusterClient, number: int) -> None:
        """Change our connector."""
        client.put(f"/connectors/{self.name}", self.connector(number))

    def connector(self, number: int) -> dict[str, Any]:
        """Nothing uses it, so nobody connects to where it points."""
        params = {"servers": "nats://127.0.0.1:4222"}
        return {"name": self.name, "connector_type": "nats", "params": params, "description": f"{number}"}

    def event(self, client: ClusterClient, number: int) -> None:
        """Send an event in; only one that was answered counts as sent."""
        event = {"event_type": "Tick", "fields": {"n": number}}
        answer = client.post(f"/pipeline-groups/{self.name}/inject", event)
        self.sent.append(number)
        outputs = answer["worker_response"]["output_events"]
        self.received += [output["fields"]["n"] for output in outputs]


@dataclass(frozen=True, slots=True)
class RemoteDrill:
    """A drill that needs nothing but the API. `inject` returns when all is as it was, with times."""

    name: str
    summary: str
    inject: Callable[[Elsewhere], dict[str, float | None]]
    objectives: tuple[Objective, ...]


def play(drill: RemoteDrill, clients: Clients) -> Played:
    """One round.

    Raises:
        CliError: the cluster is not there, or our group does not run before anything was done.
    """
    with clients() as client, _guest(client) as place, _load(place, clients):
        time.sleep(_CALM_S)
        begun = time.monotonic()
        times = drill.inject(place)
        time.sleep(_CALM_S)
    lost, doubled = lost_and_doubled(place.sent, place.received)
    seen = Load()
    seen.acknowledged = place.writes.answered
    seen.sent = {number: begin for number, (begin, _) in enumerate(place.events.answered)}
    seen.received = [(number, end) for number, (_, end) in enumerate(place.events.answered)]
    figures = {
        **times,
        "longest_write_s": place.writes.longest_since(begun),
        "longest_event_s": place.events.longest_since(begun),
        "events_lost": lost,
        "events_doubled": doubled,
        "requests_failed": place.writes.failed + place.events.failed,
    }
    return Played(figures, seen, begun)


def _leader_transfer(place: Elsewhere) -> dict[str, float | None]:
    before = place.client.get("/raft")["leader_id"]
    begun = time.monotonic()
    place.client.post("/raft/transfer", {"to": None}, wait=10)
    return {
        "election_s": _waited(begun, lambda: place.client.get("/raft")["leader_id"] not in (before, None))
    }


def _worker_drain(place: Elsewhere) -> dict[str, float | None]:
    worker = place.host()
    here = f"/workers/{quote(worker, safe='')}"
    begun = time.monotonic()
    place.client.post(f"{here}/drain", {})
    try:
        moved = _waited(begun, lambda: place.host() != worker)
        drained = _waited(begun, lambda: place.client.get(f"{here}/drain")["status"] == "done")
        return {"moved_s": moved, "drained_s": drained}
    finally:
        if place.client.get(f"{here}/drain")["status"] == "active":
            place.client.delete(f"{here}/drain")
        place.client.post(f"{here}/uncordon", {})


def _rebalance(place: Elsewhere) -> dict[str, float | None]:
    begun = time.monotonic()
    started = place.client.post("/rebalance", {})["migration_ids"]
    ended = ("done", "failed", "cancelled")

    def over() -> bool:
        return all(place.client.get(f"/migrations/{one}")["status"] in ended for one in started)

    return {"moves": len(started), "rebalanced_s": _waited(begun, over)}


def _waited(begun: float, look: Callable[[], bool]) -> float | None:
    """Seconds from `begun` until it is so; `None`: not in time."""
    while not look():
        if time.monotonic() - begun > _WITHIN_S:
            return None
        time.sleep(_LOOK_S)
    return time.monotonic() - begun


@contextmanager
def _guest(client: ClusterClient) -> Iterator[Elsewhere]:
    """Our group, running, and our connector; both gone afterwards."""
    place = Elsewhere(client, f"drill_{secrets.token_hex(4)}")
    group = {"name": place.name, "pipelines": [{"name": "echo", "source": _PROGRAM}]}
    client.get("/summary")  # nobody there: then nothing is left behind either
    try:
        client.post("/connectors", place.connector(0))
        client.post("/pipeline-groups", group, wait=10)
        path = f"/pipeline-groups/{place.name}"
        if _waited(time.monotonic(), lambda: client.get(path)["status"] == "running") is None:
            raise CliError(
                "the group of the drill does not run: `varpulis groups` says why; nothing was done"
            )
        yield place
    finally:
        for path in (f"/pipeline-groups/{place.name}", f"/connectors/{place.name}"):
            try:
                client.delete(path)
            except CliError as error:
                if error.code != "not_found":
                    raise CliError(f"{path} was left behind: {error}: delete it yourself") from None


@contextmanager
def _load(place: Elsewhere, clients: Clients) -> Iterator[None]:
    """Writes and events for as long as the block lasts."""
    stopping = threading.Event()

    def repeat(calls: Calls, request: Callable[[ClusterClient, int], None]) -> None:
        with clients() as client:
            for number in itertools.count():
                if stopping.wait(_PAUSE_S):
                    return
                begun = time.monotonic()
                try:
                    request(client, number)
                except CliError:
                    calls.failed += 1
                else:
                    calls.answered.append((begun, time.monotonic()))

    threads = [
        threading.Thread(target=repeat, args=(place.writes, place.write), daemon=True),
        threading.Thread(target=repeat, args=(place.events, place.event), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(_WITHIN_S)


_QUIETLY: Final = (
    Objective("events_lost", 0),
    Objective("events_doubled", 0),
    Objective("requests_failed", 0),
    Objective("longest_write_s", 3.0),
    Objective("longest_event_s", 3.0),
)
REMOTE: Final = {
    drill.name: drill
    for drill in (
        RemoteDrill(
            "leader-transfer",
            "give leadership to another coordinator",
            _leader_transfer,
            (Objective("election_s", 3.0), *_QUIETLY),
        ),
        RemoteDrill(
            "worker-drain",
            "drain the worker that runs the drill's pipeline, with all others it has, and give it back",
            _worker_drain,
            (
                Objective("moved_s", 10.0),
                Objective("drained_s", 60.0),
                *_QUIETLY,
            ),
        ),
        RemoteDrill(
            "rebalance",
            "even the loads of the workers",
            _rebalance,
            (Objective("rebalanced_s", 60.0), *_QUIETLY),
        ),
    )
}
