"""Browsers: what a foreign page may make them send here, which is nothing.

There are no CORS headers, so a foreign page can read no answer; but a browser sends some requests without
asking first. So a request that says it comes from another origin is refused, a preflight as well; and on a
coordinator that anybody on this machine may command (loopback, no keys) the `Host` of a browser must be this
machine's, or a page could have its own name resolved to 127.0.0.1 and be of the same origin.

Programs that are no browsers send neither `Origin` nor `Sec-Fetch-Site` and do not call themselves Mozilla,
as every browser does: they are not concerned.
"""

from typing import Any, Final

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, ErrorReply
from transport.http_client import is_loopback

_SAME: Final = frozenset({b"same-origin", b"none"})


class SameOrigin:
    """An ASGI middleware.

    Args:
        app: the application behind it.
        local: `Host` must name this machine.

    Attributes:
        refused: how many were.
    """

    def __init__(self, app: Any, *, local: bool) -> None:
        self._app = app
        self._local = local
        self.refused = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        text = _foreign(scope, self._local) if scope["type"] == "http" else None
        if text is None:
            await self._app(scope, receive, send)
            return
        self.refused += 1
        body = encode(ErrorReply(text, ErrorCode.FORBIDDEN))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _foreign(scope: Any, local: bool) -> str | None:
    """What is wrong with a request; None when nothing is."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"")
    browser = headers.get(b"user-agent", b"").startswith(b"Mozilla/")
    if local and browser and not _is_local(host.decode("latin-1")):
        return "Host is not this machine, and nobody is asked for a key: ask http://127.0.0.1, or use keys"
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2].lower() != host.lower():  # a proxy may do the TLS
        return "requests of pages from elsewhere are refused (CORS is closed): use a program, or our own page"
    if headers.get(b"sec-fetch-site", b"none") not in _SAME and not _follows_a_link(scope, headers):
        return "requests of pages from elsewhere are refused (CORS is closed): use a program, or our own page"
    return None


def _follows_a_link(scope: Any, headers: dict[bytes, bytes]) -> bool:
    """Somebody came from elsewhere to look at us, in a window of his own; the foreign page sees nothing."""
    return scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    return name.endswith(".localhost") or is_loopback(name)
