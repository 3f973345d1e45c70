"""What can go wrong on the way: one type per cause a caller treats differently, each text with a remedy.

An error that the *peer* answered is not a transport error: it is `proto_schemas.errors.WireError`.
No text holds a secret: configuration keeps secrets apart from URLs, and texts are built from URLs only.
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a message did not make it (or its answer could not be read)."""

    TIMEOUT = "timeout"
    NO_RESPONDERS = "no_responders"
    DISCONNECTED = "disconnected"
    CONGESTED = "congested"
    BAD_PAYLOAD = "bad_payload"
    BAD_SUBJECT = "bad_subject"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"


_RETRYABLE = frozenset(
    {ErrorKind.TIMEOUT, ErrorKind.NO_RESPONDERS, ErrorKind.DISCONNECTED, ErrorKind.CONGESTED}
)


class NatsTransportError(Exception):
    """A publish, request or connect that failed.

    Attributes:
        kind: the cause, for programs.
        subject: what it was sent to; empty for a connection.
        retryable: the same message may succeed later. A `TIMEOUT` may have been carried out nevertheless:
            retry with the same request id.
    """

    def __init__(self, kind: ErrorKind, text: str, *, subject: str = "") -> None:
        super().__init__(f"{subject}: {text}" if subject else text)
        self.kind = kind
        self.subject = subject

    @property
    def retryable(self) -> bool:
        return self.kind in _RETRYABLE


class ConfigError(ValueError):
    """A connection setting that is wrong or contradicts another; the text names both and the remedy."""


def disconnected(url: str, cause: BaseException | None, *, subject: str = "") -> NatsTransportError:
    """There was a connection, and there will be one again, but not now."""
    why = f" ({cause})" if cause is not None else ""
    text = f"not connected to {url}{why}: start nats-server; we come back by ourselves"
    return NatsTransportError(ErrorKind.DISCONNECTED, text, subject=subject)


def unreachable(url: str, cause: BaseException) -> NatsTransportError:
    """No first connection."""
    why = str(cause) or "no answer"
    text = f"cannot reach {url} ({why}): start nats-server there, or correct the URL (--nats, or `servers`)"
    return NatsTransportError(ErrorKind.DISCONNECTED, text)


def refused(url: str, cause: BaseException) -> NatsTransportError:
    """The server is there and does not want us."""
    text = f"{url} refuses us ({cause}): check user, password, token, credentials and TLS files"
    return NatsTransportError(ErrorKind.UNAUTHORIZED, text)
