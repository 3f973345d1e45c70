"""Server-sent events: what changes in the state, to whoever listens.

A client has no queue of its own. It has a cursor, the number of the last event it was sent, into the trail
that the state keeps anyway (`state.trail`): so a client costs its connection and one number, and a slow one
holds up nobody. When the trail has moved on past a cursor, the client is sent `reset` and must load anew;
nothing is left out silently. A client that takes nothing for `PATIENCE` seconds is let go, and there are at
most `max_clients`.

What goes over the wire, each event with its name:

    change    one decision; its `id` is its number, and `Last-Event-ID` resumes after it, at any node
    reset     load anew: the trail does not reach back to the `Last-Event-ID`, or the client was too slow
    summary   the cluster in a few numbers, at most once a second and only when they changed; has no id
    end       this coordinator stops: ask another one; or the key of the request counts no longer

and a comment every `heartbeat` seconds in which there was nothing else.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import msgspec

from coordinator.state import trail
from coordinator.state.limits import MAX_AUDIT
from coordinator.state.model import State
from coordinator.state.records import Event
from proto_schemas.errors import ErrorCode, WireError

MAX_CLIENTS: Final = 200
MAX_OF_ONE: Final = 50
"""Clients with one API key, so that none of them keeps the others out."""
HEARTBEAT: Final = 15.0
"""Seconds; below what proxies take for an idle connection (30 to 60 s, mostly)."""
PATIENCE: Final = 30.0
"""Seconds a client may take nothing while something waits for it."""
SUMMARY_EVERY: Final = 1.0
PART: Final = 100
"""Events that are sent in one piece, some 30 KB, so that a client's buffer stays small."""
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_HELLO: Final = b"retry: 1000\n\n"
_STILL_HERE: Final = b": heartbeat\n\n"

Send = Callable[[Any], Any]
Receive = Callable[[], Any]


class Client:
    """One listener: how far it is. `admitted`: whether it may still listen. `sent`: events; `resets`: how
    often it was told to load anew."""

    def __init__(
        self, cursor: int | None, heartbeat: float, admitted: Callable[[], bool], holder: str
    ) -> None:
        self.cursor = cursor
        self.holder = holder
        self.heartbeat = heartbeat
        self.admitted = admitted
        self.summary = 0
        self.wake = asyncio.Event()
        self.sent = 0
        self.resets = 0


class Streams:
    """The listeners of one coordinator.

    Args:
        state: the state as applied here.
        max_clients, max_of_one: more, in all or with one key, are told to come back.
        heartbeat: seconds between signs of life.
        patience: seconds until a client that takes nothing is let go.

    Attributes:
        refused: clients beyond the bound; `resets`, `let_go`: see above.
    """

    def __init__(
        self,
        state: Callable[[], State],
        *,
        max_clients: int = MAX_CLIENTS,
        max_of_one: int = MAX_OF_ONE,
        heartbeat: float = HEARTBEAT,
        patience: float = PATIENCE,
    ) -> None:
        self._state = state
        self._max_clients = max_clients
        self._max_of_one = max_of_one
        self._heartbeat = heartbeat
        self._patience = patience
        self._clients: set[Client] = set()
        self._closed = False
        self._summary = b""
        self._summaries = 0
        self.refused = 0
        self.resets = 0
        self.let_go = 0

    @property
    def clients(self) -> int:
        """How many listen now."""
        return len(self._clients)

    def changed(self, events: tuple[Event, ...]) -> None:
        """Something was applied, or the state was replaced; nothing waits here."""
        for client in self._clients:
            client.wake.set()

    def close(self) -> None:
        """Have every stream end, and take no more."""
        self._closed = True
        self.changed(())

    async def run(self, summary: Callable[[], bytes]) -> None:
        """Keep the summary new while somebody listens, until cancelled."""
        while True:
            if self._clients and (now := summary()) != self._summary:
                self._summary = now
                self._summaries += 1
                self.changed(())
            await asyncio.sleep(SUMMARY_EVERY)

    def open(
        self, last_event_id: str | None, admitted: Callable[[], bool] = lambda: True, holder: str = ""
    ) -> "Callable[[Any, Receive, Send], Any]":
        """An ASGI application that streams to one client, for as long as it is `admitted`; `holder`: the id
        of its key, where there is one.

        Raises:
            WireError: `unavailable`, there are too many, or we stop.
        """
        if self._closed or len(self._clients) >= self._max_clients:
            self.refused += 1
            why = "this coordinator stops" if self._closed else f"{self._max_clients} clients listen already"
            raise WireError(ErrorCode.UNAVAILABLE, f"{why}: ask another coordinator, or later")
        if holder and sum(client.holder == holder for client in self._clients) >= self._max_of_one:
            self.refused += 1
            why = f"{self._max_of_one} clients listen already with key {holder}"
            raise WireError(ErrorCode.RATE_LIMITED, f"{why}: close some, or share one", retry_after=1.0)
        audit = self._state().audit
        cursor = trail.newest(audit) if last_event_id is None else _number(last_event_id)
        client = Client(cursor, self._heartbeat, admitted, holder)

        async def stream(scope: Any, receive: Receive, send: Send) -> None:
            self._clients.add(client)
            gone = asyncio.create_task(_gone(receive, client))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                await self._feed(client, send, gone)
            except TimeoutError:
                self.let_go += 1
            finally:
                self._clients.discard(client)
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)

        return stream

    async def _feed(self, client: Client, send: Send, gone: "asyncio.Task[None]") -> None:
        part = _HELLO
        while not gone.done():
            if not client.admitted():
                await _end(send, "the key of this request counts no longer: come with another")
                return
            async with asyncio.timeout(self._patience):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            client.wake.clear()
            part = self._next(client)
            if not part and self._closed:
                await _end(send, "this coordinator stops: ask another one")
                return
            while not part and not gone.done() and not self._closed:
                try:
                    async with asyncio.timeout(client.heartbeat):
                        await client.wake.wait()
                except TimeoutError:
                    part = _STILL_HERE
                else:
                    client.wake.clear()
                    part = self._next(client)

    def _next(self, client: Client) -> bytes:
        """What the client is to be sent now; empty when there is nothing."""
        audit = self._state().audit
        if client.cursor is None or not trail.complete_since(audit, client.cursor):
            client.cursor = trail.newest(audit)
            client.resets += 1
            self.resets += 1
            why = f"the trail holds the last {MAX_AUDIT} changes, and yours is not among them: load anew"
            return _event("reset", {"reason": why, "newest": client.cursor}, client.cursor)
        if trail.newest(audit) > client.cursor:
            events = list(islice(trail.after(audit, client.cursor), PART))
            client.cursor = events[-1].seq
            client.sent += len(events)
            return b"".join(map(encoded, events))
        if client.summary != self._summaries:
            client.summary = self._summaries
            return b"event: summary\ndata: " + self._summary + b"\n\n"
        return b""


@lru_cache(maxsize=MAX_AUDIT)
def encoded(event: Event) -> bytes:
    """One change as it goes over the wire; made once for all clients."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return _event("change", fields, event.seq)


async def _end(send: Send, reason: str) -> None:
    await send({"type": "http.response.body", "body": _event("end", {"reason": reason})})


def _event(name: str, data: Any, number: int | None = None) -> bytes:
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None


async def _gone(receive: Receive, client: Client) -> None:
    """Ends when the client has closed its connection."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        client.wake.set()
