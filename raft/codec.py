"""Frames: what nodes say to each other, typed, versioned and bounded.

A frame is one byte of protocol version, then a msgpack array (tag first) of one of the Structs below. Every
frame names its cluster, generation, sender, the sender's incarnation (it grows with each start), the sender's
term, and a sequence number that grows with each frame of an incarnation. A reply names the sequence number
and incarnation it answers.

`decode` turns foreign bytes into a frame or into a `FrameError` with the label of a counter, and never into
anything else. It also holds what types cannot say: the entries of an append continue each other and never
come from the future.
"""

import re
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from raft.entries import Entry
from raft.errors import FrameError

PROTOCOL_VERSION = 1
MAX_FRAME_BYTES = 1_000_000
"""Below NATS's default payload limit of 1 MiB."""
MAX_ENTRIES = 4_096
CHUNK_BYTES = 256 * 1024

_T = TypeVar("_T", bound="Frame")
_Number = Annotated[int, Meta(ge=0, le=2**62)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
"""Of letters, digits, ``_`` and ``-``, see `_is_name`."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_Text = Annotated[str, Meta(max_length=1_024)]


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What every frame carries."""

    cluster: _Name
    generation: _Number
    sender: _Name
    incarnation: _Number
    term: _Number
    seq: _Number


class Vote(Frame, frozen=True, tag="vote"):
    """A candidate asks for a vote (Raft 5.2)."""

    last_index: _Number
    last_term: _Number


class PreVote(Frame, frozen=True, tag="prevote"):
    """Would you vote for me? Changes nothing at the receiver (thesis 9.6)."""

    last_index: _Number
    last_term: _Number


class Append(Frame, frozen=True, tag="append"):
    """Entries that follow `prev_index`, or none: a heartbeat (Raft 5.3)."""

    prev_index: _Number
    prev_term: _Number
    commit_index: _Number
    entries: Annotated[list[Entry], Meta(max_length=MAX_ENTRIES)]


class SnapshotChunk(Frame, frozen=True, tag="snapshot"):
    """Part `number` of `count` of a snapshot of `size` bytes that ends at `last_index`; `crc` is over the
    whole.
    """

    last_index: _Number
    last_term: _Number
    number: _Number
    count: _Number
    size: _Number
    crc: _Number
    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]


class Propose(Frame, frozen=True, tag="propose"):
    """A follower hands a command to the leader, in this one of the leader's incarnations."""

    to_incarnation: _Number
    command: bytes


class Read(Frame, frozen=True, tag="read"):
    """A follower asks the leader for a barrier."""


class Hello(Frame, frozen=True, tag="hello"):
    """A starting node asks whether somebody already answers under its id."""


class TimeoutNow(Frame, frozen=True, tag="timeout_now"):
    """A leader that stops tells its best follower to campaign at once."""


class Reply(Frame, frozen=True):
    """What every reply carries: the request it answers."""

    answers_incarnation: _Number
    answers_seq: _Number


class VoteReply(Reply, frozen=True, tag="vote_reply"):
    """Answers `Vote`; a refusal is answered too, with the term."""

    granted: bool


class PreVoteReply(Reply, frozen=True, tag="prevote_reply"):
    """Answers `PreVote`: granted when the receiver hears no leader and its log is not ahead."""

    granted: bool


class AppendReply(Reply, frozen=True, tag="append_reply"):
    """Answers `Append`: the logs agree below `next_index`, or (not `success`) try again from there."""

    success: bool
    next_index: _Number


class SnapshotReply(Reply, frozen=True, tag="snapshot_reply"):
    """Answers `SnapshotChunk`: the chunk wanted next, or that all is installed, or (`limit` above 0) that no
    snapshot of more than `limit` bytes is taken.
    """

    expected: _Number
    installed: bool
    limit: _Number = 0


class CallReply(Reply, frozen=True, tag="call_reply"):
    """Answers `Propose` and `Read`; `outcome` is a key of `raft.outcomes.OUTCOMES`."""

    outcome: _Text
    index: _Number
    entry_term: _Number
    result: bytes
    detail: _Text


class HelloReply(Reply, frozen=True, tag="hello_reply"):
    """Answers `Hello`: the id is taken."""


AnyRequest = Vote | PreVote | Append | SnapshotChunk | Propose | Read | Hello | TimeoutNow
AnyReply = VoteReply | PreVoteReply | AppendReply | SnapshotReply | CallReply | HelloReply

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[AnyRequest] = msgspec.msgpack.Decoder(AnyRequest)
_replies: msgspec.msgpack.Decoder[AnyReply] = msgspec.msgpack.Decoder(AnyReply)
_VERSION_BYTE = bytes([PROTOCOL_VERSION])


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    return _VERSION_BYTE + _encoder.encode(frame)


def decode_request(data: bytes) -> AnyRequest:
    """The request in `data`; raises `FrameError`."""
    frame = decode_as(_requests, data)
    if isinstance(frame, Append):
        _check_entries(frame)
    return frame


def decode_reply(data: bytes) -> AnyReply:
    """The reply in `data`; raises `FrameError`."""
    return decode_as(_replies, data)


def decode_as(decoder: "msgspec.msgpack.Decoder[_T]", data: bytes) -> _T:
    """What `decoder` finds in the frame `data`; raises `FrameError`."""
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError("oversized", f"{len(data)} bytes, the limit is {MAX_FRAME_BYTES}")
    if data[:1] != _VERSION_BYTE:
        raise FrameError(
            "protocol_version", f"version byte {data[:1].hex() or 'missing'}, expected {PROTOCOL_VERSION}"
        )
    try:
        frame = decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError("malformed", str(error)) from error
    if not (_is_name(frame.cluster) and _is_name(frame.sender)):
        raise FrameError("malformed", "a name of other characters than letters, digits, '_' and '-'")
    return frame


@lru_cache(maxsize=256)
def _is_name(text: str) -> bool:
    """The same few names stand in all frames; a regular expression for each would cost more than the rest."""
    return _NAME.fullmatch(text) is not None


def _check_entries(append: Append) -> None:
    index, term = append.prev_index, append.prev_term
    for entry in append.entries:
        if entry.index != index + 1 or not term <= entry.term <= append.term:
            cause = f"entry {entry.index} of term {entry.term} cannot follow {index} of term {term}"
            raise FrameError("malformed", cause)
        index, term = entry.index, entry.term
