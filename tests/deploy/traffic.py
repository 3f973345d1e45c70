"""Numbers that go into two groups, and what comes out: a program, and who reads its notes.

    python -m tests.deploy.traffic SECRETS HOST...

`plain` delivers at most once: what is lost is lost, and nothing may come out twice. `exact` delivers
exactly once: each number is sent until it is stored, and must come out, once and in order. Three people
take part, with the logins that deploy/nats/users.conf has for them: a client sends, an observer hears what
passes from the first pipeline of `plain` to the second, an operator reads what `exact` has put out from its
stream. Each thing is noted on a line of standard output when it happens, with the seconds of the clock that
all processes of a machine share.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from proto_schemas.codec import decode_fields, encode_fields
from proto_schemas.subjects import EXTERNAL, Subjects
from tests.deploy.cluster import login
from transport.errors import NatsTransportError
from transport.jetstream import MESSAGE_ID, JetStream, JetStreamRefused, Outgoing
from transport.nats import Message, NatsTransport
from worker.delivery.reader import Reader

GROUPS: Final = ("plain", "exact")
PIPELINES: Final = ("plain/numbers", "plain/kept", "exact/numbers")
EVERY: Final = 0.04
"""Seconds between two numbers."""
_STORED_WITHIN: Final = 2.0
_SUBJECTS: Final = Subjects()
_SOURCES: Final = {
    "numbers": "stream Numbers = Number.emit(n: n)",
    "kept": "stream Kept = Numbers.emit(n: n)",
}


def spec(group: str) -> dict[str, Any]:
    """One of `GROUPS`, for the API."""
    names = [name for name in _SOURCES if f"{group}/{name}" in PIPELINES]
    return {
        "name": group,
        "delivery": "exactly_once" if group == "exact" else "at_most_once",
        "pipelines": [{"name": name, "source": _SOURCES[name], "checkpoint_secs": 1} for name in names],
        "routes": [
            {"from_pipeline": sender, "to_pipeline": taker, "event_types": ["*"]}
            for sender, taker in pairwise([EXTERNAL, *names])
        ],
    }


class Note(msgspec.Struct):
    """What happened to a number. `what`: the group, and `sent` or `out`; `at`: monotonic seconds."""

    what: str
    n: int
    at: float


def notes(log: str) -> dict[str, list[Note]]:
    """Those of each kind, in the order in which it happened."""
    found: dict[str, list[Note]] = {f"{group} {what}": [] for group in GROUPS for what in ("sent", "out")}
    for line in log.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            note = msgspec.json.decode(line, type=Note)
            found[note.what].append(note)
    return found


def _note(what: str, n: int) -> None:
    print(msgspec.json.encode(Note(what, n, time.monotonic())).decode(), flush=True)


def _number(data: bytes) -> int:
    return int(decode_fields(data)["fields"]["n"])


async def _send(client: NatsTransport) -> None:
    entry = _SUBJECTS.pipeline("plain", EXTERNAL, "numbers")
    for n in range(sys.maxsize):
        await asyncio.sleep(EVERY)
        with contextlib.suppress(NatsTransportError):
            await client.publish(entry, encode_fields({"event_type": "Number", "fields": {"n": n}}))
            _note("plain sent", n)


async def _store(client: NatsTransport) -> None:
    jetstream = JetStream(client, deadline=_STORED_WITHIN)
    entry = _SUBJECTS.pipeline("exact", EXTERNAL, "numbers")
    for n in range(sys.maxsize):
        data = encode_fields({"event_type": "Number", "fields": {"n": n}})
        stored = False
        while not stored:
            await asyncio.sleep(EVERY)
            with contextlib.suppress(NatsTransportError, JetStreamRefused):
                await jetstream.publish(Outgoing(entry, data, {MESSAGE_ID: f"number-{n}"}))
                stored = True
        _note("exact sent", n)


async def _read(operator: NatsTransport) -> None:
    out = _SUBJECTS.pipeline("exact", "numbers", EXTERNAL)
    reader = Reader(JetStream(operator), _SUBJECTS.stream("exact"), [out], 0)
    while True:
        for fetched in await reader.take(1000, 1.0):
            _note("exact out", _number(fetched.data))


async def _main(secrets: Path, hosts: Iterable[str]) -> None:
    def heard(message: Message) -> None:
        _note("plain out", _number(message.data))

    client, observer, operator = [
        await NatsTransport.connect(login(person, secrets, hosts), wait=10)
        for person in ("client", "observer", "operator")
    ]
    await observer.listen(_SUBJECTS.pipeline("plain", "numbers", "kept"), heard, alone=True)
    await observer.flush()
    await asyncio.gather(_send(client), _store(client), _read(operator))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
