"""A client of the coordinators' REST API that survives the loss of any one of them.

Every known coordinator is tried in turn. An answer that may change (`unavailable`, `not_leader`: an
election is under way) is asked for again, with backoff, until the deadline; a write keeps its
`Idempotency-Key` through all tries, so it is done once however often it is sent. When nobody listens at
any URL, waiting would not help: that fails at once.
"""

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import httpx
import msgspec

from cli.errors import CliError
from proto_schemas.errors import Diagnostic, ErrorReply
from proto_schemas.rest import API_BASE

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_MAY_PASS: Final = frozenset({"unavailable", "not_leader"})


class Unreachable(CliError):
    """No coordinator answered in time."""


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
        transport: a stand-in for the network, in tests.
    """

    def __init__(
        self, urls: Sequence[str], *, timeout: float = 10.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.timeout = timeout
        self._http = httpx.Client(transport=transport, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to `GET` of a path below the API's base.

        Raises:
            Refused: the cluster said no.
            Unreachable: nobody answered in time.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any], **query: Any) -> Any:
        """The answer to `POST`; raises as `get` does. `wait` in the query prolongs the deadline by itself."""
        return self._call("POST", path, body=body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        """The answer to `DELETE`; raises as `get` does."""
        return self._call("DELETE", path, query=query)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any]
    ) -> Any:
        deadline = time.monotonic() + self.timeout + float(query.get("wait", 0))
        headers = {} if method == "GET" else {"Idempotency-Key": uuid.uuid4().hex}
        pause, last = _FIRST_PAUSE, "no try was made"
        while True:
            listening = False
            for url in self.urls:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Unreachable(self._gave_up(deadline, last))
                try:
                    answer = self._http.request(
                        method, url + API_BASE + path, json=body, params=query, headers=headers, timeout=left
                    )
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    last = f"{url}: {error}"
                    continue
                except httpx.InvalidURL as error:
                    raise CliError(f"{url!r} is no URL: {error}: correct --url") from None
                except httpx.HTTPError as error:
                    listening, last = True, f"{url}: {type(error).__name__} {error}".rstrip()
                    continue
                if answer.is_success:
                    return _document(answer)
                reply = _error(answer)
                if reply.code not in _MAY_PASS:
                    raise Refused(reply, answer.status_code)
                listening, last = True, f"{url}: {reply.error}"
            if not listening:
                raise Unreachable(
                    f"no coordinator listens at {', '.join(self.urls)} ({last}): "
                    "start one with `varpulis up`, or name it with --url"
                )
            time.sleep(max(0.0, min(pause * random.uniform(0.5, 1.0), deadline - time.monotonic())))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _gave_up(self, deadline: float, last: str) -> str:
        return f"no coordinator could answer within --timeout {self.timeout:g} s; the last said: {last}"


def _document(answer: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(answer.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CliError(
            f"{answer.url} answered no JSON: is a coordinator at this URL? Correct --url"
        ) from None


def _error(answer: httpx.Response) -> ErrorReply:
    try:
        return msgspec.json.decode(answer.content, type=ErrorReply)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ErrorReply(
            error=f"{answer.url} answered HTTP {answer.status_code} without an error object: "
            "is a coordinator at this URL? Correct --url"
        )
