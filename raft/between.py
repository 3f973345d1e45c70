"""Frames between generations: what nodes say to each other whose generations, or roles, differ.

`raft.codec`'s frames count only within one generation. These are read by `raft.succession`, which tells them
from the others by their tag, without decoding; a core never sees them.

- `Invite`: the leader asks a newcomer to follow its generation as a learner.
- `Fetch`: a node that has missed a change asks for a base, piece by piece.
- `NewerGeneration` answers any request of an older generation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from raft.codec import CHUNK_BYTES, Frame, Reply, decode_as
from raft.generation import Generation

_Number = Annotated[int, Meta(ge=0, le=2**62)]


class Invite(Frame, frozen=True, tag="invite"):
    """Follow this generation, which is the sender's, as a learner."""

    generation_now: Generation


class Fetch(Frame, frozen=True, tag="fetch"):
    """The bytes from `offset` on of the snapshot with this checksum, if you still have it."""

    crc: _Number
    offset: _Number


class InviteReply(Reply, frozen=True, tag="invite_reply"):
    """Answers `Invite`; `refusal` is empty when the node follows."""

    refusal: Annotated[str, Meta(max_length=500)]


class FetchReply(Reply, frozen=True, tag="fetch_reply"):
    """Answers `Fetch`: bytes of a snapshot of `generation_now`, of `size` bytes, `crc` over the whole."""

    generation_now: Generation
    size: _Number
    crc: _Number
    offset: _Number
    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]


class NewerGeneration(Reply, frozen=True, tag="newer_generation"):
    """Answers a request of an older generation."""

    generation_now: Generation


BetweenRequest = Invite | Fetch
BetweenReply = InviteReply | FetchReply | NewerGeneration

_requests: msgspec.msgpack.Decoder[BetweenRequest] = msgspec.msgpack.Decoder(BetweenRequest)
_replies: msgspec.msgpack.Decoder[BetweenReply] = msgspec.msgpack.Decoder(BetweenReply)
_TAGS = frozenset((b"invite", b"fetch", b"invite_reply", b"fetch_reply", b"newer_generation"))
_TAG_AT = 3
"""Behind the version byte, the array's head and the string's head, one byte each for short ones."""


def is_between(data: bytes) -> bool:
    """Whether the frame is one of these, by its tag."""
    return len(data) > _TAG_AT and data[_TAG_AT : _TAG_AT + (data[_TAG_AT - 1] & 0x1F)] in _TAGS


def decode_request(data: bytes) -> BetweenRequest:
    """The request in `data`; raises `FrameError`."""
    return decode_as(_requests, data)


def decode_reply(data: bytes) -> BetweenReply:
    """The reply in `data`; raises `FrameError`."""
    return decode_as(_replies, data)
