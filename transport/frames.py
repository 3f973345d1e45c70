"""What may stand in a NATS frame: subjects and headers, checked before they are written.

A line end in either would let a caller write protocol commands of its own, and a control line that is too
long makes the server close the connection, so both are refused here, for the one message they concern.
"""

import re
from typing import Final

from transport.errors import ErrorKind, NatsTransportError

MAX_SUBJECT: Final = 1024
"""Bytes; two of them (subject and reply) fit into the server's control line of 4,096."""
_KNOWN_MAX: Final = 4096
_SUBJECT: Final = re.compile(r"[^\s\x00-\x1f\ud800-\udfff]+")
_TOKEN: Final = r"(?![*>](?:\.|\Z))[^.\s\x00-\x1f\ud800-\udfff]+"
_TOKENS: Final = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")
_INBOX: Final = "_INBOX."
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Subjects:
    """Refuses what cannot be published to; `known` (bounded) holds what was good, as subjects repeat, but for
    inboxes, which do not.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()

    def check(self, subject: str) -> None:
        """Raise `BAD_SUBJECT`, or add `subject` to those that are known."""
        if subject.startswith(_INBOX) and _is_plain_inbox(subject):
            return
        if _TOKENS.fullmatch(subject) is None or not _is_short(subject):
            raise NatsTransportError(
                ErrorKind.BAD_SUBJECT,
                f"nothing can be published to it: give 1 to {MAX_SUBJECT} bytes without spaces, "
                "empty tokens or wildcards",
                subject=f"{subject!r:.80}",
            )
        if len(self.known) < _KNOWN_MAX and not subject.startswith(_INBOX):
            self.known.add(subject)


def _is_plain_inbox(subject: str) -> bool:
    """Whether it surely may be published to, without the regular expressions: each message has a new inbox,
    and what was not used for a millisecond is slow.
    """
    if not _is_plain(subject) or subject.endswith("."):
        return False
    return not ("*" in subject or ">" in subject or ".." in subject)


def _is_plain(subject: str) -> bool:
    bounded = 0 < len(subject) <= MAX_SUBJECT
    return bounded and subject.isascii() and subject.isprintable() and " " not in subject


def check_reply(reply: str) -> None:
    """Raise `BAD_SUBJECT` for a reply subject that would break the frame."""
    if not _is_plain(reply) and not _fits(reply):
        text = f"no reply subject: give at most {MAX_SUBJECT} bytes without spaces"
        raise NatsTransportError(ErrorKind.BAD_SUBJECT, text, subject=f"{reply!r:.80}")


def check_payload(data: object) -> None:
    """Raise `BAD_PAYLOAD` for what callers without types hand over; nats-py would write half a frame."""
    if not isinstance(data, bytes):
        raise NatsTransportError(ErrorKind.BAD_PAYLOAD, f"the payload is {type(data).__name__}: give bytes")


def header_block(headers: dict[str, str]) -> bytes:
    """The headers as bytes of a frame.

    Raises:
        NatsTransportError: `BAD_PAYLOAD`, naming the header that cannot be carried.
    """
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            text = (
                f"header {name[:80]!r}: write its name without spaces, its value without control characters"
            )
            raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text)
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode()


def _fits(subject: str) -> bool:
    return _SUBJECT.fullmatch(subject) is not None and _is_short(subject)


def _is_short(subject: str) -> bool:
    return len(subject) <= MAX_SUBJECT and (subject.isascii() or len(subject.encode()) <= MAX_SUBJECT)
