"""Foreign bytes become a frame or a typed refusal, and nothing else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.codec import (
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    AnyRequest,
    Append,
    AppendReply,
    CallReply,
    Hello,
    Propose,
    SnapshotChunk,
    Vote,
    decode_reply,
    decode_request,
    encode,
)
from raft.entries import COMMAND, NOOP, Entry
from raft.errors import FrameError

STAMP = ("cluster", 1, "n1", 77, 3, 12)
ENTRIES = [Entry(NOOP, 6, 2, b""), Entry(COMMAND, 7, 3, b"x")]
REQUESTS: list[AnyRequest] = [
    Append(*STAMP, 5, 2, 4, ENTRIES),
    Vote(*STAMP, 5, 2),
    SnapshotChunk(*STAMP, 5, 2, 0, 1, 3, 9, b"abc"),
    Propose(*STAMP, 5, b"command"),
    Hello(*STAMP),
]


@pytest.mark.parametrize("frame", REQUESTS)
def test_a_request_survives_the_wire(frame: AnyRequest) -> None:
    assert decode_request(encode(frame)) == frame


def test_a_reply_survives_the_wire() -> None:
    for frame in (AppendReply(*STAMP, 77, 4, True, 8), CallReply(*STAMP, 77, 4, "committed", 8, 3, b"r", "")):
        assert decode_reply(encode(frame)) == frame


@given(st.binary(max_size=300))
def test_noise_is_refused_with_a_reason(noise: bytes) -> None:
    for data in (noise, bytes([PROTOCOL_VERSION]) + noise):
        for decode in (decode_request, decode_reply):
            with pytest.raises(FrameError) as refusal:
                decode(data)
            assert refusal.value.reason in {"malformed", "protocol_version"}


@given(st.sampled_from(REQUESTS), st.data())
def test_a_frame_with_changed_bytes_is_read_or_refused_but_never_raises_otherwise(
    frame: AnyRequest, data: st.DataObject
) -> None:
    damaged = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_request(bytes(damaged))
    except FrameError as refusal:
        assert refusal.reason


def test_another_protocol_version_is_refused_by_name() -> None:
    with pytest.raises(FrameError) as refusal:
        decode_request(bytes([PROTOCOL_VERSION + 1]) + encode(REQUESTS[0])[1:])
    assert refusal.value.reason == "protocol_version"


def test_an_oversized_frame_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError) as refusal:
        decode_request(b"\x01" * (MAX_FRAME_BYTES + 1))
    assert refusal.value.reason == "oversized"


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(COMMAND, 7, 3, b"")],
        [Entry(COMMAND, 6, 3, b""), Entry(COMMAND, 8, 3, b"")],
        [Entry(COMMAND, 6, 1, b"")],
        [Entry(COMMAND, 6, 4, b"")],
    ],
    ids=["gap after prev", "gap", "term falls", "term from the future"],
)
def test_entries_that_cannot_follow_each_other_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(FrameError, match="cannot follow"):
        decode_request(encode(Append(*STAMP, 5, 2, 4, entries)))


@pytest.mark.parametrize("name", ["a.b", "a b", "*", ">", "n1\n", "\u00e9", "", "n" * 65])
@pytest.mark.parametrize("field", ["sender", "cluster"])
def test_a_name_that_would_break_a_subject_is_refused(field: str, name: str) -> None:
    for _ in range(2):  # what was seen before is judged alike
        with pytest.raises(FrameError) as refusal:
            decode_request(encode(msgspec.structs.replace(REQUESTS[1], **{field: name})))
        assert refusal.value.reason == "malformed"
