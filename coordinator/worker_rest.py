"""Commands over HTTP, to workers that registered with `carrier: rest`.

A worker asks for a key of its own. It comes in a header beside its registration and each of its heartbeats,
lies in the memory of the node that leads and nowhere else (not in the log, nor in a copy of the state), and
counts for the incarnation that sent it. So a new leader learns it with the next heartbeat, within an
interval; until then its commands fail as for a worker that was not reached, and are tried again.

An address is `http(s)://host:port` and nothing more; beyond this machine https, unless the coordinators run
`insecure`. Redirects are not followed; deadline and bounds are `transport.http_client`'s.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from coordinator.state.records import REST, Worker
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import Register
from proto_schemas.worker_rest import KEY_HEADER, WORKER_KEY_HEADER, to_request
from transport import tracing
from transport.errors import ConfigError, ErrorKind, NatsTransportError
from transport.http_client import HttpClient, base_url, keeps_secrets, message_of

_KEY: Final = re.compile(r"[!-~]{16,512}")

T = TypeVar("T", bound=msgspec.Struct)


class RestCarrier:
    """One way to workers; see `coordinator.worker_commands.Carrier`.

    Args:
        find: the worker of an id; None when there is none.

    Attributes:
        asked: commands by (command, outcome): `ok`, the code of a refusal, or the kind of a failure.
    """

    def __init__(self, http: HttpClient, find: Callable[[str], Worker | None]) -> None:
        self._http = http
        self._find = find
        self._keys: dict[str, tuple[str | None, str]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()

    def carries(self, worker_id: str) -> bool:
        """Whether this worker registered for it."""
        worker = self._find(worker_id)
        return worker is not None and worker.carrier == REST

    def learn(self, worker_id: str, incarnation: str | None, key: str | None) -> None:
        """Note the key that came with a registration or heartbeat; what is none changes nothing."""
        worker = self._find(worker_id)
        ours = worker is not None and worker.carrier == REST and worker.incarnation == incarnation
        if ours and key is not None and _KEY.fullmatch(key):
            self._keys[worker_id] = (incarnation, key)

    def forget(self, worker_id: str) -> None:
        """The worker was removed."""
        self._keys.pop(worker_id, None)

    async def ask(
        self, worker_id: str, command: str, message: msgspec.Struct, reply: type[T], timeout: float
    ) -> T:
        """See `Carrier`."""
        try:
            answer = await self._ask(worker_id, command, message, reply, timeout)
        except WireError as error:
            self.asked[command, error.counted_as] += 1
            raise
        except NatsTransportError as error:
            self.asked[command, error.kind] += 1
            raise
        self.asked[command, "ok"] += 1
        return answer

    async def _ask(
        self, worker_id: str, command: str, message: msgspec.Struct, reply: type[T], timeout: float
    ) -> T:
        worker = self._find(worker_id)
        if worker is None:
            raise NatsTransportError(ErrorKind.NO_RESPONDERS, f"there is no worker {worker_id!r} any more")
        incarnation, key = self._keys.get(worker_id, (None, ""))
        if not key or incarnation != worker.incarnation:
            text = "its key is not known here yet: it comes with its next heartbeat"
            raise NatsTransportError(ErrorKind.UNAUTHORIZED, text, subject=worker.address)
        method, target, body = to_request(command, message)
        address = base_url(worker.address, "address")
        shown = {KEY_HEADER: key, **tracing.headers()}
        answer = await self._http.send(method, address, target, body, shown, timeout=timeout)
        if answer.status == 401:
            text = "it does not know its key: another process listens there, or it has just restarted"
            raise NatsTransportError(ErrorKind.UNAUTHORIZED, text, subject=address)
        return message_of(answer, reply)


def check_registration(message: Register, key: str | None, *, insecure: bool) -> None:
    """What a worker must bring to be asked over HTTP.

    Raises:
        WireError: `bad_request`: its address or its key is none, or the key would travel in the clear.
    """
    try:
        address = base_url(message.address, "address")
    except ConfigError as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"Register: {error}") from None
    if not keeps_secrets(address) and not insecure:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"Register: the address {address} is not this machine's and not https, so keys would travel in "
            "the clear: give the worker a certificate, or run the coordinators with --insecure",
        )
    if key is None or not _KEY.fullmatch(key):
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"Register: a worker with carrier rest says in {WORKER_KEY_HEADER} which key its commands must "
            "show: 16 to 512 printable characters",
        )
