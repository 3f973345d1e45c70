"""A client of the coordinators' REST API that survives the loss of any one of them.

Every known coordinator is tried in turn, each for a few seconds: one that froze must not use up the time of
the others. Whoever answered last comes first, so that one that is cut off costs a command those seconds
once, and not for each of its requests. An answer that may change (`unavailable`, `not_leader`: an election
is under way; `timeout`: it is not known what became of the write) is asked for again, with backoff, until
the deadline; a write keeps its `Idempotency-Key` through all tries, so it is done once however often it is
sent. When nobody listens at any URL, waiting would not help: that fails at once.
"""

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import msgspec

from cli.errors import CliError
from cli.http import Answer, Connections, Exchange, NoAnswer, NotListening, Progress
from proto_schemas.errors import Diagnostic, ErrorReply
from proto_schemas.rest.base import API_BASE

if TYPE_CHECKING:
    import ssl

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_TRY: Final = 3.0
"""Seconds for one try, beside `wait`; a coordinator answers within less, also that it cannot."""
_MAY_PASS: Final = frozenset({"unavailable", "not_leader", "timeout"})


class Unreachable(CliError):
    """No coordinator answered in time."""

    code = "unreachable"


class Refused(CliError):
    """The cluster said no; `code` and `diagnostics` are its own."""

    def __init__(self, reply: ErrorReply, status: int) -> None:
        super().__init__(f"{reply.error} ({reply.code})")
        self.code = reply.code
        self.status = status
        self.diagnostics: list[Diagnostic] = (
            [] if isinstance(reply.diagnostics, msgspec.UnsetType) else reply.diagnostics
        )


class ClusterClient:
    """Requests to whichever coordinator answers.

    Args:
        urls: base URLs of the coordinators.
        timeout: seconds for one call of a method, all tries together.
        exchange: what sends a request; a stand-in for the network, in tests.
        progress: told how far a large answer has come.
        key: our API key; empty: none is shown.
        tls: whom we trust and who we are, over https; without, the system's authorities.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout: float = 10.0,
        exchange: Exchange | None = None,
        progress: Progress | None = None,
        key: str = "",
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.timeout = timeout
        self._answered = ""
        self._connections = Connections(progress, tls)
        self._key = key
        self._exchange: Exchange = exchange or self._connections

    def get(self, path: str, **query: Any) -> Any:
        """The answer to `GET` of a path below the API's base.

        Raises:
            Refused: the cluster said no.
            Unreachable: nobody answered in time.
        """
        return self._call("GET", path, query=query)

    def download(self, path: str, **query: Any) -> bytes:
        """The answer to `GET` as it is, when it is no JSON; raises as `get` does."""
        answer: bytes = self._call("GET", path, query=query, read=_bytes)
        return answer

    def post(
        self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Any:
        """The answer to `POST`; raises as `get` does. `wait` in the query prolongs the deadline by itself."""
        return self._call("POST", path, body=body, query=query, headers=headers)

    def upload(self, path: str, data: bytes, **query: Any) -> Any:
        """The answer to `POST` of bytes as they are; otherwise as `post`."""
        return self._call("POST", path, body=data, query=query)

    def put(
        self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Any:
        """The answer to `PUT`; raises as `get` does."""
        return self._call("PUT", path, body=body, query=query, headers=headers)

    def delete(self, path: str, **query: Any) -> Any:
        """The answer to `DELETE`; raises as `get` does."""
        return self._call("DELETE", path, query=query)

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        read: Callable[[Answer, str], Any] | None = None,
    ) -> Any:
        wait = float(query.get("wait", 0))
        deadline = time.monotonic() + wait + self.timeout
        target = API_BASE + path + (f"?{urlencode(query)}" if query else "")
        large = isinstance(body, bytes) or read is not None
        patience = wait + (self.timeout / 2 if large else min(self.timeout / 2, _TRY))
        request = _Request(method, target, body, patience=patience, key=self._key, headers=headers)
        pause, last, told = _FIRST_PAUSE, "", ""
        while True:
            listening = False
            for url in sorted(self.urls, key=lambda url: url != self._answered):
                left = deadline - time.monotonic()
                if left <= 0:
                    within = f"--timeout {self.timeout:g} s" + (f" and --wait {wait:g} s" if wait else "")
                    raise Unreachable(
                        f"no coordinator could answer within {within}; the last said: {told or last}"
                    )
                try:
                    answer = request.ask(self._exchange, url, left)
                    self._answered = url
                    return (read or _document)(answer, url)
                except NotListening as error:
                    last = f"{url}: {error}"
                except NoAnswer as error:
                    listening, last = True, f"{url}: {error}"
                except _MayPass as error:  # says more than the last try, which the deadline cut off
                    listening, told = True, f"{url}: {error}"
            if not listening:
                raise Unreachable(
                    f"no coordinator listens at {', '.join(self.urls)} ({last}): "
                    "start one with `varpulis up`, or name it with --url"
                )
            time.sleep(max(0.0, min(pause * random.uniform(0.5, 1.0), deadline - time.monotonic())))
            pause = min(pause * 2, _LONGEST_PAUSE)


class _MayPass(Exception):
    """An answer that may be another one soon."""


class _Request:
    """A request that may be asked many times, of many coordinators, and is done once.

    Args:
        patience: seconds for one try.
    """

    def __init__(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | bytes | None,
        *,
        patience: float,
        key: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._method = method
        self._target = target
        self._patience = patience
        self._headers = {} if method == "GET" else {"Idempotency-Key": uuid.uuid4().hex}
        self._headers.update(headers or {})
        if body is None or isinstance(body, bytes):
            self._body = body
        else:
            self._body = msgspec.json.encode(body)
        if key:
            self._headers["x-api-key"] = key
        if body is not None:
            kind = "octet-stream" if isinstance(body, bytes) else "json"
            self._headers["Content-Type"] = f"application/{kind}"

    def ask(self, exchange: Exchange, url: str, left: float) -> Answer:
        """What the coordinator at `url` answers; raises `_MayPass` or `Refused` when it says no."""
        timeout = min(left, self._patience)
        answer = exchange(
            self._method, url + self._target, body=self._body, headers=self._headers, timeout=timeout
        )
        if 200 <= answer.status < 300:
            return answer
        reply = _error(answer, url)
        if reply.code in _MAY_PASS:
            raise _MayPass(reply.error)
        raise Refused(reply, answer.status)


def _bytes(answer: Answer, url: str) -> bytes:
    del url
    return answer.body


class _Document(dict[str, Any]):
    """An answer; whoever looks for what is not in it learns that something else answers there."""

    def __init__(self, found: dict[str, Any], url: str) -> None:
        super().__init__(found)
        self._url = url

    def __missing__(self, name: str) -> Any:
        raise CliError(
            f"{self._url} answered without {name!r}: is a coordinator of this release at this URL? "
            "Correct --url"
        )


def _document(answer: Answer, url: str) -> Any:
    try:
        return _Document(msgspec.json.decode(answer.body, type=dict[str, Any]), url)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CliError(
            f"{url} answered no JSON object: is a coordinator at this URL? Correct --url"
        ) from None


def _error(answer: Answer, url: str) -> ErrorReply:
    try:
        return msgspec.json.decode(answer.body, type=ErrorReply)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ErrorReply(
            error=f"{url} answered HTTP {answer.status} without an error object: "
            "is a coordinator at this URL? Correct --url"
        )
