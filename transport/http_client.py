"""HTTP as a client, with the bounds and the errors of the other carrier.

One exchange is one request and one whole answer: a deadline over all of it, a bound on the bytes of the
answer, at most `PER_HOST` of them under way to one host, so that one that froze does not use up the
connections to the others. Each host has a pool of its own, dropped when it is not used: what httpcore does
for a request grows with the square of the connections in its pool. A redirect is an answer like any other,
never followed: a key must not go where a stranger points.

What goes wrong is a `NatsTransportError` of the kind that NATS would give, so that who asks need not know
what carried it (the name is older than the second carrier):

    the connection is refused               NO_RESPONDERS   surely not heard
    no way there, TLS fails                 DISCONNECTED
    too many are under way                  CONGESTED       surely not sent
    no answer in time                       TIMEOUT         perhaps heard
    the connection ends before the answer   DISCONNECTED    perhaps heard
    the answer is too large, or no HTTP     BAD_PAYLOAD     heard
"""

import asyncio
import ipaddress
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpcore
import msgspec

from proto_schemas.codec import decode, refusal_in
from proto_schemas.errors import WireError
from transport.errors import ConfigError, ErrorKind, NatsTransportError

MAX_ANSWER: Final = 4 * 1024 * 1024
UNDER_WAY: Final = 512
PER_HOST: Final = 32
"""Requests that may be under way, in all and to one host."""
CONNECTIONS: Final = 8
"""To one host; more requests wait for one of them."""
CONNECT_TIMEOUT: Final = 1.0
T = TypeVar("T", bound=msgspec.Struct)
_KEPT_FOR: Final = 5.0
"""Seconds an idle connection is kept; servers of ours close theirs later."""
_LOST: Final = (
    httpcore.NetworkError,
    httpcore.RemoteProtocolError,
    AttributeError,  # anyio's on uvloop: the connection ended the moment it stood, and has no socket any more
)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back. `url`: who answered."""

    status: int
    body: bytes
    url: str


class HttpClient:
    """Connections to many hosts.

    Args:
        tls: for https; without, the system's authorities are trusted.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}
        self._used: dict[str, float] = {}
        self._swept = time.monotonic()
        self._under_way: Counter[str] = Counter()

    async def send(
        self,
        method: str,
        base: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float,
    ) -> HttpAnswer:
        """Send `body` to path and query `target` at `base` (see `base_url`), within `timeout` seconds.

        Raises:
            NatsTransportError: see the module. An answer of any status is none.
        """
        url = base + target
        if self._under_way[base] >= PER_HOST or self._under_way.total() >= UNDER_WAY:
            text = f"{PER_HOST} requests to it, or {UNDER_WAY} in all, are under way: retry a little later"
            raise NatsTransportError(ErrorKind.CONGESTED, text, subject=url)
        self._under_way[base] += 1
        try:
            async with asyncio.timeout(timeout):
                await self._drop_unused()
                return await self._exchange(method, url, base, body, headers or {}, timeout)
        except TimeoutError:
            text = f"no answer within {timeout:g} s; it may have been carried out: retry with the same id"
            raise NatsTransportError(ErrorKind.TIMEOUT, text, subject=url) from None
        finally:
            self._used[base] = time.monotonic()
            self._under_way[base] -= 1
            if not self._under_way[base]:
                del self._under_way[base]

    async def _exchange(
        self, method: str, url: str, base: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> HttpAnswer:
        bounds = {"connect": min(timeout, CONNECT_TIMEOUT), "pool": timeout}
        sent = {"accept": "application/json", "content-length": str(len(body)), **headers}
        if body:
            sent["content-type"] = "application/json"
        try:
            async with self._pool(base).stream(
                method,
                url,
                headers=[(name.encode(), value.encode()) for name, value in sent.items()],
                content=body,
                extensions={"timeout": bounds},
            ) as response:
                parts, size = [], 0
                async for part in response.aiter_stream():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_ANSWER:
                        text = f"the answer has more than {MAX_ANSWER} bytes: is that a process of ours?"
                        raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=url)
                return HttpAnswer(response.status, b"".join(parts), base)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if _is_refused(error):
                text = "nobody listens there: is it running?"
                raise NatsTransportError(ErrorKind.NO_RESPONDERS, text, subject=url) from None
            text = f"no connection ({error or type(error).__name__}): check address, network and TLS files"
            raise NatsTransportError(ErrorKind.DISCONNECTED, text, subject=url) from None
        except httpcore.PoolTimeout:
            text = f"its {CONNECTIONS} connections are in use: retry a little later"
            raise NatsTransportError(ErrorKind.CONGESTED, text, subject=url) from None
        except httpcore.LocalProtocolError:
            text = "the request cannot be sent: a header, such as a key, holds what HTTP does not carry"
            raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=url) from None
        except _LOST as error:
            text = (
                f"the connection was lost ({type(error).__name__}) before the answer came; it may have been "
                "carried out: retry with the same id"
            )
            raise NatsTransportError(ErrorKind.DISCONNECTED, text, subject=url) from None

    async def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    def _pool(self, base: str) -> httpcore.AsyncConnectionPool:
        pool = self._pools.get(base)
        if pool is None:
            pool = self._pools[base] = httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=CONNECTIONS, keepalive_expiry=_KEPT_FOR
            )
        return pool

    async def _drop_unused(self) -> None:
        """Close what no request has used for a while; httpcore itself looks only when it is used."""
        now = time.monotonic()
        if now - self._swept < _KEPT_FOR:
            return
        self._swept = now
        for base, used in list(self._used.items()):
            if now - used > _KEPT_FOR and not self._under_way[base]:
                del self._used[base]
                pool = self._pools.pop(base, None)
                if pool is not None:
                    await pool.aclose()


def message_of(answer: HttpAnswer, kind: type[T]) -> T:
    """The message of the wire that an answer holds.

    Raises:
        WireError: the peer answered with an error.
        NatsTransportError: `BAD_PAYLOAD`, it is neither.
    """
    if (refusal := refusal_in(answer.body)) is not None:
        raise refusal
    if not 200 <= answer.status < 300:
        text = f"status {answer.status} and no error of ours: what listens there? redirects are not followed"
        raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=answer.url)
    try:
        return decode(answer.body, kind, limit=MAX_ANSWER)
    except WireError as error:
        text = f"the answer cannot be read: {error}; do both ends have the same version?"
        raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=answer.url) from None


def base_url(given: str, what: str) -> str:
    """`scheme://host:port` of a URL that is nothing more.

    Raises:
        ConfigError: another scheme, no host, a bad port, a path or query, or credentials in it (never shown).
    """
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{what} is no URL: write it as https://host:port") from None
    if "@" in parts.netloc:
        raise ConfigError(f"{what} holds credentials: leave them out, keys have files of their own")
    host = parts.hostname
    printable = given.isascii() and given.isprintable() and " " not in given
    if parts.scheme not in ("http", "https") or not host or not printable:
        raise ConfigError(f"{what} is {given[:200]!r}: write it as https://host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment or port == 0:
        raise ConfigError(f"{what} is {given[:200]!r}: give scheme, host and port, and nothing after them")
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}:{port or (443 if parts.scheme == 'https' else 80)}"


def check_ca(file: str, what: str) -> None:
    """Raises `ConfigError` when a file of authorities (PEM; empty: none) cannot be used."""
    try:
        if file:
            ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ConfigError(f"{what} {file}: {error}: give a readable PEM file") from None


def keeps_secrets(base: str) -> bool:
    """Whether a key may be sent to it: over TLS, or not beyond this machine."""
    parts = urlsplit(base)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on or to reach is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_refused(error: BaseException) -> bool:
    """Whether the other machine itself said that nobody listens."""
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, ConnectionRefusedError):
            return True
        if isinstance(cause, BaseExceptionGroup):
            pending.extend(cause.exceptions)
        if cause is not None:
            pending.extend((cause.__cause__, cause.__context__ if cause.__cause__ is None else None))
    return False
