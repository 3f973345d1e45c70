"""Whatever a stranger sends, one kind of error leaves the codec."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.codec import MAX_PAYLOAD, decode, decode_fields, encode, encode_fields, refusal_in
from proto_schemas.errors import HTTP_STATUS, ErrorCode, ErrorReply, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.events import InjectBatch, Injected
from proto_schemas.messages.membership import Heartbeat, Register
from proto_schemas.messages.moves import Restore

KINDS: list[type[msgspec.Struct]] = [
    Register,
    Heartbeat,
    Deploy,
    InjectBatch,
    Restore,
    ErrorReply,
]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.binary(max_size=400), st.sampled_from(KINDS))
def test_arbitrary_bytes_only_ever_raise_wire_error(data: bytes, kind: type[msgspec.Struct]) -> None:
    with contextlib.suppress(WireError):
        decode(data, kind)
    refusal_in(data)


@given(documents, st.sampled_from(KINDS))
def test_arbitrary_json_only_ever_raises_wire_error(document: object, kind: type[msgspec.Struct]) -> None:
    with contextlib.suppress(WireError):
        decode(msgspec.json.encode(document), kind)


@given(st.binary(max_size=400))
def test_free_form_json_only_ever_raises_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_fields(data)


@given(st.dictionaries(st.text(), scalars))
def test_free_form_fields_come_back_as_they_went(fields: dict[str, object]) -> None:
    assert msgspec.json.decode(encode_fields(fields)) == fields


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty message"),
        (b"{", "not valid JSON"),
        (b'{"worker_id": "\xff"}', "not valid JSON"),
        (b"[" * 100_000, "Register"),
        (b"null", "Register"),
    ],
    ids=["empty", "torn", "not UTF-8", "nested without end", "null"],
)
def test_bad_input_is_a_bad_request_that_says_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says) as refused:
        decode(data, Register)
    assert (refused.value.code, refused.value.status) == ("bad_request", 400)


def test_a_message_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match=f"larger than {MAX_PAYLOAD}") as refused:
        decode(b"\xff" * (MAX_PAYLOAD + 1), Register)
    assert refused.value.status == 413


def test_an_error_object_in_place_of_an_answer_is_found() -> None:
    error = refusal_in(
        encode(WireError(ErrorCode.NOT_LEADER, "ask the leader", leader="coordinator-1").reply())
    )
    assert error is not None
    assert (error.code, error.leader, error.retryable) == ("not_leader", "coordinator-1", True)


def test_an_error_object_of_a_seed_peer_needs_only_its_text() -> None:
    error = refusal_in(b'{"error":"no such pipeline"}')
    assert error is not None
    assert (error.error, error.code, error.status) == ("no such pipeline", "internal", 500)


def test_an_answer_that_holds_the_word_error_in_its_data_is_an_answer() -> None:
    answer = b'{"ok":true,"output_events":[{"event_type":"E","fields":{"error":"x"}}]}'
    assert refusal_in(answer) is None
    assert decode(answer, Injected).output_events[0].fields == {"error": "x"}


def test_every_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)


def test_a_code_of_a_newer_peer_is_kept_and_answered_as_500() -> None:
    error = WireError.of(ErrorReply(error="?", code="of_tomorrow"))
    assert (error.code, error.status) == ("of_tomorrow", 500)
