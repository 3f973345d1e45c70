"""Foreign JSON in; an event, or a refusal with a reason, out.

Three shapes are taken: `{"event_type", "timestamp"?, "fields": {}}`, the same with `data`, and flat, where
every key but `event_type` and `timestamp` is a field. With `fields` or `data`, further keys are metadata
and no part of the event. The type is `event_type`, else `type`, else the last token of the subject. Time is
`timestamp`, else `ts` (ms since 1970, or ISO-8601; without a zone it is UTC), looked for beside the fields
and then among them, else the time of arrival.

Whatever a stranger sends, the only exception is `PayloadError`, whose `reason` is one of `REASONS` and so
may become a metric label. Integers of any length stay integers (that is why msgspec reads here and not
orjson, which turns those beyond 64 bits into floats). Depth is walked only when there are brackets enough
for it to matter.
"""

from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import msgspec

Event = tuple[str, dict[str, Any], int]
"""(event type, fields, time in ms since 1970)."""

MAX_BYTES: Final = 1024 * 1024
MAX_FIELDS: Final = 1024
MAX_DEPTH: Final = 32
MAX_TYPE_LENGTH: Final = 256
MAX_TIME_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

REASONS: Final = ("bad_json", "not_an_object", "too_large", "too_many_fields", "too_deep", "no_type")

_ENVELOPE: Final = frozenset(("event_type", "timestamp"))
_decode = msgspec.json.Decoder().decode


class PayloadError(ValueError):
    """A message that is no event. `reason` is one of `REASONS`; the text adds what would be right."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


def parse_event(data: bytes, subject: str, arrival_ms: int) -> Event:
    """Read one message that came on `subject` at `arrival_ms`.

    Raises:
        PayloadError: it is no event.
    """
    if len(data) > MAX_BYTES:
        _refuse("too_large", f"{len(data)} bytes, at most {MAX_BYTES} are taken: send less in one event")
    try:
        message = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PayloadError("bad_json", f"{error}: send one JSON object in UTF-8") from None
    except RecursionError:
        _refuse("too_deep", f"at most {MAX_DEPTH} levels are taken: flatten it")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(message)
    return _event(message, subject, arrival_ms)


def read_event(message: Any, arrival_ms: int) -> Event:
    """Read one event that is decoded already (an element of a batch).

    Raises:
        PayloadError: it is no event.
    """
    _check_depth(message)
    return _event(message, "", arrival_ms)


def _event(message: Any, subject: str, arrival_ms: int) -> Event:
    if type(message) is not dict:
        _refuse("not_an_object", "send a JSON object with event_type and fields")
    event_type = message.get("event_type")
    if event_type is None:
        event_type = message.get("type")
        if event_type is None:
            event_type = subject.rpartition(".")[2]
    if type(event_type) is not str or not 0 < len(event_type) <= MAX_TYPE_LENGTH:
        _refuse("no_type", f"event_type must be a text of 1 to {MAX_TYPE_LENGTH} characters")

    fields = message.get("fields")
    if type(fields) is not dict:
        fields = message.get("data")
        if type(fields) is not dict:
            fields = {key: value for key, value in message.items() if key not in _ENVELOPE}
    if len(fields) > MAX_FIELDS:
        _refuse("too_many_fields", f"{len(fields)} fields, at most {MAX_FIELDS} are taken")

    stamp = message.get("timestamp")
    if type(stamp) is int and -MAX_TIME_MS <= stamp <= MAX_TIME_MS:
        return event_type, fields, stamp
    return event_type, fields, _time(message, fields, arrival_ms)


def _time(message: dict[str, Any], fields: dict[str, Any], arrival_ms: int) -> int:
    for holder in (message, fields):
        for key in ("timestamp", "ts"):
            stamp = holder.get(key)
            if stamp is not None:
                time_ms = _milliseconds(stamp)
                return arrival_ms if time_ms is None else time_ms
    return arrival_ms


def _milliseconds(stamp: Any) -> int | None:
    if type(stamp) is int or type(stamp) is float:
        return int(stamp) if -MAX_TIME_MS <= stamp <= MAX_TIME_MS else None
    if type(stamp) is not str or len(stamp) > 40:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _check_depth(message: Any) -> None:
    level = [message]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if type(value) is dict:
                inner.extend(value.values())
            elif type(value) is list:
                inner.extend(value)
        if not inner:
            return
        level = inner
    if any(type(value) is dict or type(value) is list for value in level):
        _refuse("too_deep", f"at most {MAX_DEPTH} levels are taken: flatten it")


def _refuse(reason: str, text: str) -> NoReturn:
    raise PayloadError(reason, text)
