"""The JetStream streams of groups that deliver at least once, or exactly once.

The leader makes the stream of a group before the first copy is deployed, and looks at it before each that
follows: it may be gone, or a route may have a new subject. It removes it with the group. Its metadata says
which life of the group it is of: one that was left behind, as no leader was there to remove it, is made anew
for the next life; and who is late with what concerns an earlier life does nothing to the stream of this one.

`discard: new`: what finds the stream full is refused, so that whoever sends knows, and nothing is lost that
was taken. What is older than `max_age` is removed, read or not: that is the longest outage that costs
nothing.
"""

import asyncio
import logging
from typing import Any, Final

from coordinator.log import line
from coordinator.state.versions import Group
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.subjects import EXTERNAL, Subjects
from transport.errors import ErrorKind, NatsTransportError
from transport.jetstream import (
    MESSAGE_ID,
    NO_STREAM,
    STREAM_EXISTS,
    JetStream,
    JetStreamRefused,
    Outgoing,
    Stored,
)
from transport.nats import NatsTransport

LIFE: Final = "varpulis_life"
DUPLICATES_FOR: Final = 120.0
"""Seconds for which a request that comes again under its key is known."""
_NS: Final = 1_000_000_000
_log = logging.getLogger(__name__)


class GroupStreams:
    """Makes, removes and fills them.

    Args:
        replicas: of each stream; `max_age`: seconds; `max_bytes`: of each, 0: as many as the account allows.
    """

    def __init__(
        self,
        nats: NatsTransport,
        subjects: Subjects,
        *,
        replicas: int = 1,
        max_age: float = 86_400.0,
        max_bytes: int = 0,
    ) -> None:
        self._jetstream = JetStream(nats)
        self._subjects = subjects
        self._replicas = replicas
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._turn = asyncio.Lock()

    async def check(self) -> None:
        """That JetStream is there at all.

        Raises:
            WireError: `unavailable`.
        """
        try:
            await self._jetstream.api("INFO")
        except (JetStreamRefused, NatsTransportError) as error:
            raise _unavailable("JetStream", error) from None

    async def ensure(self, group: Group) -> None:
        """Have the stream of a group, if it needs one.

        Raises:
            WireError: `unavailable`, with what JetStream said; it may pass.
        """
        if group.spec.delivery == AT_MOST_ONCE:
            return
        name = self._subjects.stream(group.spec.name)
        try:
            async with self._turn:
                present = await self._have(name, self._config(group), group.created_at)
        except (JetStreamRefused, NatsTransportError) as error:
            raise _unavailable(f"stream {name}", error) from None
        if not present.get("allow_atomic"):
            raise WireError(
                ErrorCode.UNAVAILABLE,
                f"stream {name} takes no batches: delivery {group.spec.delivery} needs nats-server 2.12 or "
                "later",
                retryable=True,
            )

    async def _have(self, name: str, wanted: dict[str, Any], life: int) -> dict[str, Any]:
        """The configuration of the stream, which is there and of that life afterwards."""
        present = await self._present(name)
        if present is not None and _life(present) > life:
            raise JetStreamRefused(0, "it is of a later life of the group: look again")
        if present is not None and _life(present) < life:
            await self._jetstream.api(f"STREAM.DELETE.{name}", none=(NO_STREAM,))
            present = None
        if present is None:
            made = await self._jetstream.api(f"STREAM.CREATE.{name}", wanted, none=(STREAM_EXISTS,))
            _log.info("%s", line("stream_made", stream=name))
            return dict((made or {"config": wanted})["config"])
        if sorted(present.get("subjects") or ()) != sorted(wanted["subjects"]):
            changed = {**present, "subjects": wanted["subjects"]}
            await self._jetstream.api(f"STREAM.UPDATE.{name}", changed)
        return present

    async def _present(self, name: str) -> dict[str, Any] | None:
        found = await self._jetstream.api(f"STREAM.INFO.{name}", none=(NO_STREAM,))
        return None if found is None else found.get("config") or {}

    async def remove(self, group: str, life: int) -> None:
        """Remove the stream of a group that is gone, of that life; what does not work is logged, and made
        good when a group of that name is made again."""
        name = self._subjects.stream(group)
        try:
            async with self._turn:
                present = await self._present(name)
                if present is not None and _life(present) == life:
                    await self._jetstream.api(f"STREAM.DELETE.{name}", none=(NO_STREAM,))
        except (JetStreamRefused, NatsTransportError) as error:
            _log.warning("%s", line("stream_left", stream=name, reason=error))

    def entry(self, group: Group, pipeline: str, subject: str | None) -> str:
        """Where an event from outside enters a pipeline; `subject`: of the route that leads it there."""
        return subject or self._subjects.pipeline(group.spec.name, EXTERNAL, pipeline)

    async def publish(self, subject: str, data: bytes, message_id: str | None) -> Stored:
        """Store one event, under `message_id` once.

        Raises:
            WireError: `unavailable`: it is not stored; `timeout`: it may be.
        """
        headers = {MESSAGE_ID: message_id} if message_id is not None else {}
        try:
            return await self._jetstream.publish(Outgoing(subject, data, headers))
        except JetStreamRefused as error:
            raise _unavailable(f"subject {subject}", error) from None
        except NatsTransportError as error:
            if error.kind is ErrorKind.TOO_LARGE:
                raise WireError(ErrorCode.BAD_REQUEST, str(error), status=413) from None
            if error.kind in (ErrorKind.TIMEOUT, ErrorKind.DISCONNECTED):
                raise WireError(ErrorCode.TIMEOUT, f"subject {subject}: {error}") from None
            raise _unavailable(f"subject {subject}", error) from None

    def _config(self, group: Group) -> dict[str, Any]:
        name = group.spec.name
        own = {route.nats_subject for route in group.spec.routes if route.nats_subject is not None}
        captured = self._subjects.stream_subjects(name)
        within = captured[0].removesuffix(">")
        return {
            "name": self._subjects.stream(name),
            "description": f"Events of the Varpulis group {name}",
            "subjects": [*captured, *sorted(each for each in own if not each.startswith(within))],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self._replicas,
            "max_age": int(self._max_age * _NS),
            "max_bytes": self._max_bytes or -1,
            "duplicate_window": int(min(DUPLICATES_FOR, self._max_age) * _NS),
            "allow_atomic": True,
            "metadata": {LIFE: str(group.created_at)},
        }


def _life(config: dict[str, Any]) -> int:
    """Of the group that a stream was made for; 0 when it does not say."""
    text = str((config.get("metadata") or {}).get(LIFE, ""))
    return int(text) if text.isdecimal() else 0


def _unavailable(what: str, error: Exception) -> WireError:
    if isinstance(error, NatsTransportError) and error.kind is ErrorKind.NO_RESPONDERS:
        text = f"{what}: nobody answers: is JetStream on, and may a coordinator use it?"
    else:
        text = f"{what}: {error}"
    return WireError(ErrorCode.UNAVAILABLE, text, retryable=True)
