"""A store in JetStream: an object store bucket, replicated as its stream is.

For each pipeline there is one object, `group/pipeline`: its content is the newest checkpoint, so that `nats
object get varpulis-checkpoints GROUP/PIPELINE` fetches it; in its metadata lies the manifest. Chunks of
older checkpoints stay beside it, each checkpoint on a subject of its own, until they are tidied away.

    $O.<bucket>.C.<group>.<pipeline>.<epoch>-<seq>   chunks
    $O.<bucket>.M.<base64 of group/pipeline>         the object's description, newest only (rollup)

The layout is the object store's, the requests are ours, because nats-py 2.16's `ObjectStore` cannot keep
our rules: its `get` has no deadline and waits for ever for a chunk that is not there; it gathers all of it;
its `put` publishes the description over whatever is there, where we need the *expected last sequence of
that subject*, by which the server itself refuses a copy that was fenced off; and it removes the old chunks
before anybody knows that the new ones are whole. Here each message is one request with a deadline, and
nothing needs a consumer or an inbox.

Reads go to the stream's leader (`STREAM.MSG.GET`), never to a replica that may be behind (`DIRECT.GET`).
"""

import base64
import time
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from transport.errors import ErrorKind, NatsTransportError
from transport.nats import NatsTransport
from worker.store.base import (
    Conflict,
    Damaged,
    Manifest,
    Place,
    Stored,
    StoreDown,
    decode_manifest,
    encode_manifest,
    epoch_of,
)

BUCKET: Final = "varpulis-checkpoints"
DEADLINE: Final = 5.0
"""Seconds for one request; with three replicas a publish takes about a millisecond."""
_STREAM: Final = f"OBJ_{BUCKET}"
_CHUNK_OPTIONS: Final = {"max_chunk_size": 256 * 1024}
_KEY: Final = "varpulis"
_EMPTY: Final = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="  # SHA-256 of nothing

NO_MESSAGE: Final = 10037
NO_STREAM: Final = 10059
STREAM_EXISTS: Final = 10058
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})


class JetStreamStore:
    """See the module; `Store` says what each method does.

    Args:
        replicas: of the stream, when this worker makes it; 1, 3 or 5, at most the servers of the cluster.
        max_bytes: of the stream, likewise; beyond it checkpoints fail. -1: as much as the account allows.
    """

    def __init__(
        self, bus: NatsTransport, *, replicas: int = 1, max_bytes: int = -1, deadline: float = DEADLINE
    ) -> None:
        self._bus = bus
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._deadline = deadline

    @property
    def name(self) -> str:
        return f"JetStream bucket {BUCKET}"

    async def manifest(self, place: Place) -> tuple[Manifest | None, int]:
        found = await self._message({"last_by_subj": _description(place)})
        if found is None:
            return None, 0
        data, sequence = found
        try:
            return decode_manifest(orjson.loads(data)["metadata"][_KEY].encode()), sequence
        except (Damaged, ValueError, TypeError, KeyError, AttributeError):
            return None, sequence

    async def publish(self, place: Place, manifest: Manifest, revision: int) -> int:
        headers = {"Nats-Rollup": "sub", "Nats-Expected-Last-Subject-Sequence": str(revision)}
        return await self._publish(_description(place), _object(place, manifest), headers)

    async def put(self, place: Place, name: str, number: int, data: bytes) -> None:
        await self._publish(_chunks(place, name), data)

    async def read(self, place: Place, stored: Stored) -> AsyncIterator[bytes]:
        subject, sequence = _chunks(place, stored.name), 0
        for number in range(len(stored.chunks)):
            found = await self._message({"seq": sequence + 1, "next_by_subj": subject})
            if found is None:
                raise Damaged(f"chunk {number} is missing")
            data, sequence = found
            yield data

    async def tidy(self, place: Place, kept: Collection[str], epoch: int) -> None:
        prefix = _chunks(place, "")
        info = await self._api(f"STREAM.INFO.{_STREAM}", {"subjects_filter": f"{prefix}*"})
        for subject in (info.get("state") or {}).get("subjects") or {}:
            name = subject.removeprefix(prefix)
            if name not in kept and epoch_of(name) <= epoch:
                await self._purge(subject)

    async def forget(self, place: Place) -> None:
        await self._purge(_description(place))
        await self._purge(_chunks(place, "*"))

    async def make(self) -> None:
        """Make the bucket; one that is there stays as it is. By itself it is made by the first checkpoint.

        Raises:
            StoreDown: JetStream does not answer, or refuses.
        """
        config = {
            "name": _STREAM,
            "description": "Checkpoints of Varpulis pipelines",
            "subjects": [f"$O.{BUCKET}.C.>", f"$O.{BUCKET}.M.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self._replicas,
            "max_bytes": self._max_bytes,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        await self._api(f"STREAM.CREATE.{_STREAM}", config, none=(STREAM_EXISTS,))

    # -- requests

    async def _message(self, query: dict[str, Any]) -> tuple[bytes, int] | None:
        """A message of the stream and its sequence; None: there is none."""
        answer = await self._api(f"STREAM.MSG.GET.{_STREAM}", query, none=(NO_MESSAGE, NO_STREAM))
        if answer is None:
            return None
        try:
            message = answer["message"]
            return base64.b64decode(message.get("data") or ""), int(message["seq"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._unreadable() from None

    async def _purge(self, subject: str) -> None:
        await self._api(f"STREAM.PURGE.{_STREAM}", {"filter": subject}, none=(NO_STREAM,))

    async def _publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
        try:
            answer = await self._ask(subject, data, headers)
        except NatsTransportError as error:
            if error.kind is not ErrorKind.NO_RESPONDERS:
                raise self._down(error) from None
            await self._make_or_say()
            try:
                answer = await self._ask(subject, data, headers)
            except NatsTransportError as again:
                raise self._down(again) from None
        if (fault := answer.get("error")) is not None:
            if fault.get("err_code") in WRONG_LAST_SEQUENCE:
                raise Conflict
            raise self._refused(fault)
        try:
            return int(answer["seq"])
        except (KeyError, TypeError, ValueError):
            raise self._unreadable() from None

    async def _make_or_say(self) -> None:
        try:
            await self.make()
        except StoreDown as error:
            raise StoreDown(
                f"{error}: there is no bucket, and it could not be made: `nats object add {BUCKET}` makes it"
            ) from None

    async def _api(self, verb: str, query: dict[str, Any], *, none: Collection[int] = ()) -> Any:
        """What JetStream answers; None where it says one of `none`."""
        try:
            answer = await self._ask(f"$JS.API.{verb}", orjson.dumps(query))
        except NatsTransportError as error:
            raise self._down(error) from None
        fault = answer.get("error")
        if fault is None:
            return answer
        if fault.get("err_code") in none:
            return None
        raise self._refused(fault)

    async def _ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        answer = await self._bus.request(subject, data, timeout=self._deadline, headers=headers)
        try:
            found = orjson.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._unreadable()
        return found

    def _unreadable(self) -> StoreDown:
        return StoreDown(f"{self.name}: the server's answer cannot be read: is it JetStream that answers?")

    def _down(self, error: NatsTransportError) -> StoreDown:
        if error.kind is ErrorKind.NO_RESPONDERS:
            return StoreDown(f"{self.name}: nobody answers: is JetStream on, and may this worker use it?")
        return StoreDown(f"{self.name}: {error}")

    def _refused(self, fault: dict[str, Any]) -> StoreDown:
        return StoreDown(f"{self.name}: {fault.get('description', 'refused')} ({fault.get('err_code')})")


def _chunks(place: Place, name: str) -> str:
    return f"$O.{BUCKET}.C.{place.group}.{place.pipeline}.{name}"


def _description(place: Place) -> str:
    return f"$O.{BUCKET}.M.{base64.urlsafe_b64encode(str(place).encode()).decode()}"


def _object(place: Place, manifest: Manifest) -> bytes:
    """The description of the object: its newest checkpoint, and the manifest."""
    newest = manifest.checkpoints[0] if manifest.checkpoints else None
    digest = base64.urlsafe_b64encode(bytes.fromhex(newest.sha256)).decode() if newest is not None else _EMPTY
    return orjson.dumps(
        {
            "name": str(place),
            "bucket": BUCKET,
            "nuid": f"{place.group}.{place.pipeline}.{newest.name if newest is not None else '0-0'}",
            "size": newest.size if newest is not None else 0,
            "chunks": len(newest.chunks) if newest is not None else 0,
            "digest": f"SHA-256={digest}",
            "mtime": datetime.fromtimestamp(time.time(), UTC).isoformat(),
            "options": _CHUNK_OPTIONS,
            "metadata": {_KEY: encode_manifest(manifest).decode()},
        }
    )
