"""Foreign JSON becomes an event, or a refusal with a reason; nothing else ever comes out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.payload import MAX_BYTES, MAX_DEPTH, MAX_FIELDS, REASONS, PayloadError, parse_event, read_event

NOW = 1_760_000_000_000


def parse(message: Any, subject: str = "hq.Door") -> tuple[str, dict[str, Any], int]:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return parse_event(data, subject, NOW)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"event_type": "Door", "timestamp": 5, "fields": {"a": 1}}, ("Door", {"a": 1}, 5)),
        ({"event_type": "Door", "fields": {"a": 1}}, ("Door", {"a": 1}, NOW)),
        ({"event_type": "Door", "data": {"a": 1}}, ("Door", {"a": 1}, NOW)),
        ({"event_type": "Door", "fields": {"a": 1}, "source": "x"}, ("Door", {"a": 1}, NOW)),
        ({"event_type": "Door", "timestamp": 5, "a": 1}, ("Door", {"a": 1}, 5)),
        ({"event_type": "Door", "fields": 3}, ("Door", {"fields": 3}, NOW)),
        ({"event_type": "Door"}, ("Door", {}, NOW)),
        ({"type": "Door", "a": 1}, ("Door", {"type": "Door", "a": 1}, NOW)),
        ({"a": 1}, ("Door", {"a": 1}, NOW)),
        ({"event_type": "D", "type": "x"}, ("D", {"type": "x"}, NOW)),
        ({"event_type": "D", "a": {"b": [1, {"c": None}]}}, ("D", {"a": {"b": [1, {"c": None}]}}, NOW)),
    ],
)
def test_the_three_shapes_of_an_event_are_understood(
    message: dict[str, Any], event: tuple[str, dict[str, Any], int]
) -> None:
    assert parse(message) == event


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123.9, 1_700_000_000_123),
        (-5, -5),
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000),
        ("2026-01-02T04:04:05.250+01:00", 1_767_323_045_250),
        ("yesterday", NOW),
        (True, NOW),
        ([], NOW),
        (10**30, NOW),
        (1e300, NOW),
        ("0001-01-01T00:00:00+23:59", None),
        ("9" * 10_000, NOW),
    ],
)
@pytest.mark.parametrize("key", ["timestamp", "ts"])
def test_time_is_milliseconds_or_iso_and_else_that_of_arrival(
    key: str, stamp: Any, expected: int | None
) -> None:
    beside = parse({"event_type": "D", key: stamp, "fields": {}})
    among = parse({"event_type": "D", "fields": {key: stamp}})
    assert beside[2] == among[2]
    assert expected is None or beside[2] == expected


def deep(levels: int) -> bytes:
    return b'{"event_type":"D","a":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"a": "\xff"}', "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        ([], "not_an_object"),
        ("text", "not_an_object"),
        (None, "not_an_object"),
        (b'{"a":"' + b"x" * MAX_BYTES + b'"}', "too_large"),
        ({"event_type": "D", "fields": {str(n): n for n in range(MAX_FIELDS + 1)}}, "too_many_fields"),
        ({"event_type": "D"} | {str(n): n for n in range(MAX_FIELDS + 1)}, "too_many_fields"),
        (deep(MAX_DEPTH), "too_deep"),
        (deep(100_000), "too_deep"),
        ({"event_type": 5}, "no_type"),
        ({"event_type": ""}, "no_type"),
        ({"event_type": "x" * 257}, "no_type"),
        ({"type": {}}, "no_type"),
    ],
)
def test_what_is_no_event_is_refused_with_its_reason(message: Any, reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        parse(message)
    assert refused.value.reason == reason
    assert reason in REASONS


def test_the_limits_themselves_are_allowed() -> None:
    assert len(parse({"event_type": "D", "fields": {str(n): n for n in range(MAX_FIELDS)}})[1]) == MAX_FIELDS
    assert parse(deep(MAX_DEPTH - 1))[0] == "D"


def test_integers_of_any_length_stay_integers() -> None:
    for number in (2**53 + 1, 2**63, 2**64, -(2**64), 10**300):
        value = parse({"event_type": "D", "fields": {"n": number}})[1]["n"]
        assert value == number and type(value) is int


def test_an_event_of_a_batch_has_no_subject_to_take_its_type_from() -> None:
    with pytest.raises(PayloadError, match="no_type"):
        read_event({"fields": {}}, NOW)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
envelopes = st.dictionaries(
    st.sampled_from(["event_type", "type", "timestamp", "ts", "fields", "data", "x"]), anything
)


@given(st.binary(max_size=200))
def test_any_bytes_become_an_event_or_a_payload_error(data: bytes) -> None:
    try:
        event_type, fields, ts = parse_event(data, "a.b", NOW)
    except PayloadError as error:
        assert error.reason in REASONS
    else:
        assert type(event_type) is str and type(fields) is dict and type(ts) is int


@given(envelopes | anything)
def test_any_data_becomes_an_event_or_a_payload_error(message: Any) -> None:
    try:
        event_type, fields, ts = read_event(message, NOW)
    except PayloadError as error:
        assert error.reason in REASONS
    else:
        assert type(event_type) is str and type(fields) is dict and type(ts) is int
