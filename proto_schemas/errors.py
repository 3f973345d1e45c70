"""Errors as they travel: one small JSON object, whichever the carrier.

`{"error": text, "code": code, "retryable": bool, "leader"?: id}`. The text names the cause and the remedy;
the code is for programs; `retryable` says whether the same request may succeed later unchanged. A code maps
once to an HTTP status, here, so NATS and REST never disagree.
"""

from enum import StrEnum
from typing import Final

import msgspec


class ErrorCode(StrEnum):
    """What went wrong, for programs. The names are the wire's."""

    BAD_REQUEST = "bad_request"
    UNKNOWN_COMMAND = "unknown_command"
    PIPELINE_NOT_FOUND = "pipeline_not_found"
    NOT_FOUND = "not_found"
    NO_ROUTE = "no_route"
    STALE_EPOCH = "stale_epoch"
    NOT_LEADER = "not_leader"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    QUOTA_EXCEEDED = "quota_exceeded"
    RATE_LIMITED = "rate_limited"
    PARSE_ERROR = "parse_error"
    ENGINE_ERROR = "engine_error"
    CARRIER_MISSING = "carrier_missing"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


HTTP_STATUS: Final[dict[str, int]] = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.UNKNOWN_COMMAND: 404,
    ErrorCode.PIPELINE_NOT_FOUND: 404,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NO_ROUTE: 404,
    ErrorCode.STALE_EPOCH: 409,
    ErrorCode.NOT_LEADER: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.CONFLICT: 409,
    ErrorCode.QUOTA_EXCEEDED: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.PARSE_ERROR: 422,
    ErrorCode.ENGINE_ERROR: 502,
    ErrorCode.CARRIER_MISSING: 409,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.INTERNAL: 500,
}

_RETRYABLE = frozenset({"not_leader", "unavailable", "rate_limited", "timeout"})


class ErrorReply(msgspec.Struct, frozen=True):
    """The error object. A seed peer may send `{"error": text}` alone."""

    error: str
    code: str = ErrorCode.INTERNAL.value
    retryable: bool = False
    leader: str | msgspec.UnsetType = msgspec.UNSET
    diagnostics: "list[Diagnostic] | msgspec.UnsetType" = msgspec.UNSET


class Diagnostic(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding in a VPL program; lines and columns count from 1."""

    severity: str
    line: int
    column: int
    message: str
    hint: str | None = None


class WireError(Exception):
    """An error that has, or gets, the wire's form.

    Attributes:
        code: an `ErrorCode`, or a code of a newer peer that we do not know.
        retryable: the same request may succeed later unchanged.
        leader: who leads, when the answering node knows somebody better to ask.
        diagnostics: findings in a VPL program (code `parse_error`).
        status: the HTTP status; derived from the code unless given (413 is a `bad_request`).
        retry_after: seconds after which the same request may succeed, where that is known.
    """

    def __init__(
        self,
        code: str,
        error: str,
        *,
        retryable: bool | None = None,
        leader: str | None = None,
        diagnostics: list[Diagnostic] | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(error)
        self.code = str(code)
        self.error = error
        self.retryable = self.code in _RETRYABLE if retryable is None else retryable
        self.leader = leader
        self.diagnostics = diagnostics
        self.retry_after = retry_after
        self.status = status if status is not None else HTTP_STATUS.get(self.code, 500)

    @property
    def counted_as(self) -> str:
        """The code, for a counter: all that we do not know are one, for a peer may invent as many as it
        likes."""
        return self.code if self.code in HTTP_STATUS else "other"

    def reply(self) -> ErrorReply:
        """The object to send."""
        return ErrorReply(
            error=self.error,
            code=self.code,
            retryable=self.retryable,
            leader=self.leader if self.leader is not None else msgspec.UNSET,
            diagnostics=self.diagnostics if self.diagnostics is not None else msgspec.UNSET,
        )

    @classmethod
    def of(cls, reply: ErrorReply) -> "WireError":
        """The exception for an error object that came in."""
        return cls(
            reply.code,
            reply.error,
            retryable=reply.retryable,
            leader=None if isinstance(reply.leader, msgspec.UnsetType) else reply.leader,
            diagnostics=None if isinstance(reply.diagnostics, msgspec.UnsetType) else reply.diagnostics,
        )
