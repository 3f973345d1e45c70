"""The coordinators and workers, asked once for all checks, each in a thread of its own.

A coordinator that answers tells of others, which are asked then as well: so a fault of one that the settings
do not name is found, too. Every answer has the time of the server in its head, to the second; a few of them,
spread over a second, bound how far its clock is from ours much closer than that.
"""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from cli.errors import CliError
from cli.http import Answer, Connections, NoAnswer, NotListening
from proto_schemas.rest.base import API_BASE

PATIENCE: Final = 2.0
"""Seconds for one answer."""
DEADLINE: Final = 8.0
"""Seconds for all that one is asked."""
MOST_WORKERS: Final = 32
"""Workers that are asked: so many tell what there is to tell of the clocks of their machines."""
LOOKS: Final = 5
LOOK_EVERY: Final = 0.21
"""Looks at a clock, and the seconds between them: five, at different parts of a second."""


@dataclass(slots=True)
class Clock:
    """How far a server's clock is ahead of ours: between `low` and `high` seconds, by all looks so far."""

    low: float = float("-inf")
    high: float = float("inf")

    def look(self, date: str, sent: float, came: float) -> None:
        """Take a `Date` head of an answer, and when, by our clock, it was asked for and came."""
        try:
            at = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError):
            return
        # it was cut to the second, at some moment between `sent` and `came`; our servers renew it once a
        # second, so it may be older by that, too
        self.low = max(self.low, at - came)
        self.high = min(self.high, at + 2.0 - sent)

    @property
    def known(self) -> bool:
        return self.low > float("-inf")

    @property
    def least(self) -> float:
        """The least difference that all looks allow, in seconds; 0 when it may be none."""
        return max(self.low, -self.high, 0.0)


@dataclass(slots=True)
class Peer:
    """One process, as far as it answered. `problem`: why it did not; `silent`: it does not at all."""

    url: str
    named: bool = True
    problem: str = ""
    health: dict[str, Any] | None = None
    ready: str = ""
    raft: dict[str, Any] | None = None
    refused: str = ""
    clock: Clock = field(default_factory=Clock)
    round_trip: float | None = None

    @property
    def name(self) -> str:
        """Its id where that is known, and where it is."""
        known = (self.health or {}).get("node_id") or (self.health or {}).get("worker_id")
        return f"{known} ({self.url})" if known else self.url


class Peers:
    """The processes of a cluster.

    Args:
        urls: of coordinators.
        key: our API key; empty: none is shown.
        tls: whom we trust, over https.
    """

    def __init__(self, urls: Iterable[str], key: str, tls: ssl.SSLContext | None) -> None:
        self._urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self._key, self._tls = key, tls
        self._lock = threading.Lock()
        self._coordinators: list[Peer] | None = None
        self._workers: list[Peer] | None = None
        self._pages: dict[str, Any] = {}

    @property
    def coordinators(self) -> list[Peer]:
        """All of them, those that others told of, too; waits until each has answered or is given up."""
        with self._lock:
            if self._coordinators is None:
                found = self._asked([Peer(url) for url in self._urls], coordinator=True)
                told = [
                    Peer(node["url"].rstrip("/"), named=False)
                    for peer in found
                    for node in (peer.raft or {}).get("nodes", [])
                    if node["url"]
                ]
                there = {(peer.health or {}).get("node_id") for peer in found}
                known = {peer.url for peer in found}
                more = {peer.url: peer for peer in told if peer.url not in known}
                fresh = self._asked(list(more.values()), coordinator=True)
                # the same one under another address is no other one
                self._coordinators = found + [
                    peer for peer in fresh if peer.health is None or peer.health.get("node_id") not in there
                ]
            return self._coordinators

    @property
    def answering(self) -> list[Peer]:
        """The coordinators that do."""
        return [peer for peer in self.coordinators if peer.health is not None]

    @property
    def workers(self) -> list[Peer]:
        """The workers that serve HTTP where the cluster says they are."""
        listed = (self.page("/workers?limit=1000") or {}).get("workers", [])
        with self._lock:
            if self._workers is None:
                ready = [worker["address"] for worker in listed if worker["status"] == "ready"]
                urls = dict.fromkeys(url.rstrip("/") for url in ready if url.startswith("http://"))
                asked = [Peer(url, named=False) for url in list(urls)[:MOST_WORKERS]]
                self._workers = self._asked(asked, coordinator=False)
            return self._workers

    def page(self, path: str) -> Any:
        """The answer of the first coordinator that gives one; None when none does."""
        peers = self.answering
        with self._lock:
            if path not in self._pages:
                self._pages[path] = self._page(peers, path)
            return self._pages[path]

    def _page(self, peers: list[Peer], path: str) -> Any:
        connections = Connections(tls=self._tls)
        try:
            for peer in peers:
                try:
                    answer = connections(
                        "GET", peer.url + API_BASE + path, headers=self._head, timeout=PATIENCE
                    )
                except (NotListening, NoAnswer, CliError):
                    continue
                if answer.status == 200:
                    return _document(answer)
            return None
        finally:
            connections.close()

    @property
    def _head(self) -> Mapping[str, str]:
        return {"x-api-key": self._key} if self._key else {}

    def _asked(self, peers: list[Peer], *, coordinator: bool) -> list[Peer]:
        threads = [
            threading.Thread(target=self._ask, args=(peer,), kwargs={"coordinator": coordinator}, daemon=True)
            for peer in peers
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + DEADLINE
        for peer, thread in zip(peers, threads, strict=True):
            thread.join(max(deadline - time.monotonic(), 0.0))
            if thread.is_alive():
                peer.problem = peer.problem or f"no answer within {DEADLINE:g} s"
        return peers

    def _ask(self, peer: Peer, *, coordinator: bool) -> None:
        connections = Connections(tls=self._tls if coordinator else None)
        try:
            answer = self._get(connections, peer, "/health")
            health = _document(answer)
            knows_itself = isinstance(health, dict) and ("node_id" in health or "worker_id" in health)
            if answer.status != 200 or not knows_itself:
                peer.problem = f"answers HTTP {answer.status} and no health: is another server there?"
                return
            peer.health = health
            peer.ready = _ready(self._get(connections, peer, "/readyz"))
            if coordinator:
                answer = self._get(connections, peer, f"{API_BASE}/raft", self._head)
                peer.raft = _document(answer) if answer.status == 200 else None
                told = _document(answer)
                if peer.raft is None and isinstance(told, dict):
                    peer.refused = f"HTTP {answer.status}: {told.get('error', '')}"
            with contextlib.suppress(NotListening, NoAnswer):  # it has said what matters
                for _ in range(LOOKS):
                    time.sleep(LOOK_EVERY)
                    self._get(connections, peer, "/livez")
        except (NotListening, NoAnswer) as error:
            peer.problem = peer.problem or str(error)
        except CliError as error:  # no URL, or no TLS
            peer.problem = peer.problem or str(error)
        finally:
            connections.close()

    def _get(
        self, connections: Connections, peer: Peer, path: str, head: Mapping[str, str] | None = None
    ) -> Answer:
        sent, begun = time.time(), time.monotonic()
        answer = connections("GET", peer.url + path, headers=head, timeout=PATIENCE)
        took = time.monotonic() - begun
        peer.clock.look(answer.date, sent, sent + took)
        peer.round_trip = took if peer.round_trip is None else min(took, peer.round_trip)
        return answer


def _ready(answer: Answer) -> str:
    """Why it is not; empty when it is."""
    if answer.status == 200:
        return ""
    told = _document(answer)
    text = told.get("error") if isinstance(told, dict) else None
    return str(text or f"HTTP {answer.status}")


def _document(answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
