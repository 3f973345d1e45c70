"""One HTTP exchange at a time, over connections that are kept, with the standard library.

A command of the CLI lives for a moment: what it would spend on loading an HTTP framework is most of that.
Two kinds of failure matter to whoever asks, so there are two exceptions: nobody listens, and somebody did
but gave no answer.
"""

import http.client
import select
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from cli.errors import CliError, UsageError

CONNECT_TIMEOUT: Final = 3.0
"""Seconds for a connection and its TLS, however long the answer may take: a machine whose cable is pulled
refuses nothing."""
_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `date`: the server's clock, as the header of that name has it, or empty."""

    status: int
    body: bytes
    date: str = field(default="", compare=False)


class NotListening(Exception):
    """No connection could be made: the request was surely not received."""


class NoAnswer(Exception):
    """The connection was made, and lost or silent: the request may have been received."""


Progress = Callable[[int, int | None], None]
"""Told of the bytes of an answer that are here, and of how many there will be."""


class Exchange(Protocol):
    """Sends a request and returns its answer; raises `NotListening` or `NoAnswer`."""

    def __call__(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Answer: ...


class Connections:
    """Connections to servers, one each, made on first use; as a function, an `Exchange`.

    Args:
        progress: told of each block of an answer that is larger than one.
        tls: for https; without, the system's authorities are trusted.
    """

    def __init__(self, progress: Progress | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._progress = progress
        self._tls = tls
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def __call__(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> Answer:
        """Send one request.

        Args:
            timeout: seconds for each silence of the server, and for the connection where that is less than
                `CONNECT_TIMEOUT`.

        Raises:
            NotListening, NoAnswer: see there.
            UsageError: `url` is none.
            CliError: TLS fails: one of us does not trust the other.
        """
        scheme, place, path = _parts(url)
        connection = self._connected(scheme, place, timeout)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, self._body(response), response.headers.get("date", ""))
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                raise _untrusted(place, error) from None
            self._open.pop((scheme, place)).close()
            cut_off = scheme == "https" and isinstance(error, ConnectionError)
            hint = ": is a client certificate asked for there (--tls-cert, --tls-key)?" if cut_off else ""
            raise NoAnswer(f"{type(error).__name__} {error}".strip() + hint) from None

    def close(self) -> None:
        """Close all connections."""
        while self._open:
            self._open.popitem()[1].close()

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        total = response.length
        if self._progress is None or response.status != 200 or (total or 0) <= _BLOCK:
            return response.read()
        body = bytearray()
        while block := response.read(_BLOCK):
            body += block
            self._progress(len(body), total)
        if total is not None and len(body) != total:
            raise http.client.IncompleteRead(bytes(body), total - len(body))
        return bytes(body)

    def _connected(self, scheme: str, place: str, timeout: float) -> http.client.HTTPConnection:
        connection = self._open.get((scheme, place))
        if connection is None or _is_over(connection):
            within = min(timeout, CONNECT_TIMEOUT)
            if scheme == "https":
                connection = http.client.HTTPSConnection(place, timeout=within, context=self._tls)
            else:
                connection = http.client.HTTPConnection(place, timeout=within)
            try:
                connection.connect()
            except ssl.SSLError as error:
                raise _untrusted(place, error) from None
            except OSError as error:
                raise NotListening(error.strerror or str(error)) from None
            self._open[scheme, place] = connection
        connection.sock.settimeout(timeout)
        return connection


def _untrusted(place: str, error: ssl.SSLError) -> CliError:
    why = getattr(error, "verify_message", "") or error.reason or str(error)
    return CliError(
        f"no TLS with {place}: {why}: name the authority with --tls-ca, show a certificate with "
        "--tls-cert and --tls-key where one is asked for, and use the name that stands in the server's"
    )


def _is_over(connection: http.client.HTTPConnection) -> bool:
    """The server closed it, as servers do with idle ones: there is something to read, unasked."""
    if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
        return False
    connection.close()
    return True


def _parts(url: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or any(character.isspace() for character in url):
        raise UsageError(f"{url!r} is no URL of a coordinator: write it as http://127.0.0.1:9100")
    return parts.scheme, parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
