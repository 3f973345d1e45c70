"""Every error leaves as the wire's error object with its status; a traceback stays in the log.

Ours are `WireError`; the framework's own (unknown path, wrong method, a query parameter of the wrong type)
are put into the same form. What nobody foresaw is 500 `internal` with an id that stands in the log beside
the traceback.
"""

import logging
import math
import uuid
from typing import Any, Final

from litestar import Response
from litestar.exceptions import HTTPException

from coordinator.api.context import AnyRequest, Context
from coordinator.api.leader import LOST
from coordinator.log import line
from coordinator.security.door import HEADER
from proto_schemas.errors import ErrorCode, ErrorReply, WireError

RETRY_AFTER: Final = "1"
"""Seconds; an election takes less."""

_CODES: Final = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.BAD_REQUEST,
    413: ErrorCode.BAD_REQUEST,
    415: ErrorCode.BAD_REQUEST,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.TIMEOUT,
}
_log = logging.getLogger(__name__)


def on_wire_error(request: AnyRequest, error: WireError) -> Response[ErrorReply]:
    """Ours."""
    if error.status == 503:  # not carried out here, but perhaps at a former leader
        error = request.scope.get("state", {}).get(LOST, error)
    if error.leader is None and error.status == 503:
        context: Context = request.app.state.context
        error.leader = context.ledger.leader_id
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = (
            RETRY_AFTER if error.retry_after is None else str(math.ceil(error.retry_after))
        )
    elif error.status == 401:
        headers["WWW-Authenticate"] = f'ApiKey header="{HEADER}"'
    return _response(error.status, error.reply(), headers)


def on_http_exception(request: AnyRequest, error: HTTPException) -> Response[ErrorReply]:
    """The framework's."""
    status = error.status_code
    if status >= 500 and status not in _CODES:
        return on_defect(request, error)
    reply = ErrorReply(error=_text(request, error), code=_CODES.get(status, ErrorCode.BAD_REQUEST).value)
    return _response(status, reply, dict(error.headers or {}))


def on_defect(request: AnyRequest, error: Exception) -> Response[ErrorReply]:
    """Nobody's."""
    incident = uuid.uuid4().hex[:12]
    _log.error(
        "%s",
        line("request_failed", incident=incident, method=request.method, path=request.url.path),
        exc_info=error,
    )
    text = f"this is a defect of the coordinator: look for incident {incident} in its log"
    return _response(500, ErrorReply(error=text, code=ErrorCode.INTERNAL.value), {})


def _text(request: AnyRequest, error: HTTPException) -> str:
    path = request.url.path[:200]
    if error.status_code == 404:
        return f"there is nothing at {path}: see GET /openapi.json"
    if error.status_code == 405:
        return f"{request.method} is not for {path}: see GET /openapi.json"
    extra: Any = error.extra
    if isinstance(extra, list):
        found = [
            f"{item.get('key', '?')}: {item.get('message', '')}" for item in extra if isinstance(item, dict)
        ]
        if found:
            return f"{request.method} {path}: {'; '.join(found)}"
    return error.detail or "the request is not understood: see GET /openapi.json"


def _response(status: int, reply: ErrorReply, headers: dict[str, str]) -> Response[ErrorReply]:
    return Response(reply, status_code=status, media_type="application/json", headers=headers)
