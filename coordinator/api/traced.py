"""A span for each request of the API, in the trace that its `traceparent` names or in one of its own.

Not for probes, heartbeats and streams: those are asked for all the time, or for ever.
"""

from typing import Any, Final

from proto_schemas.rest.base import API_BASE
from transport import tracing

_UNTRACED: Final = ("/heartbeat", "/stream")
_NAME: Final = tracing.HEADER.encode()


class Traced:
    """In front of an ASGI application; put there only where traces are made."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(API_BASE) or path.endswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        with tracing.span(scope["method"], "server", tracing.parent_of(given(scope))) as span:
            assert span is not None

            async def noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    route = str(scope.get("path_template", "unknown"))
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, noted)


def given(scope: Any) -> str | None:
    """The header of a request; of several, which is against the rules, something that is none."""
    found = [value for name, value in scope["headers"] if name == _NAME]
    if not found:
        return None
    return found[0].decode("latin-1") if len(found) == 1 else ""
