"""JSON in and out, with a bound on size and one kind of error.

Typed messages go through msgspec, which checks while it decodes and names the path of a wrong field;
free-form objects (event fields) are written by orjson, the fastest there is, and read by msgspec, which keeps
integers beyond 64 bits. Both write compact UTF-8. Whatever a stranger sends, the only
exception that leaves this module is `WireError(bad_request)`: msgspec alone can also raise
`UnicodeDecodeError` and `RecursionError`, and a test holds that they do not get out.
"""

from typing import Any, Final, TypeVar

import msgspec
import orjson

from proto_schemas.errors import ErrorCode, ErrorReply, WireError

T = TypeVar("T")

MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes of one message: what a nats-server carries unless told otherwise."""

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, "msgspec.json.Decoder[Any]"] = {}


def _decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


def encode(message: Any) -> bytes:
    """Compact JSON of a message Struct (or of plain data)."""
    return _encoder.encode(message)


def decode(data: bytes, kind: type[T], *, limit: int = MAX_PAYLOAD) -> T:
    """Read `data` as `kind`.

    Raises:
        WireError: `bad_request`, naming what was wrong and at which path (`$.capacity.cpu_cores`).
    """
    if len(data) > limit:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"message of {len(data)} bytes is larger than {limit}: send it in parts",
            status=413,
        )
    if not data:
        raise WireError(ErrorCode.BAD_REQUEST, f"empty message where {_name(kind)} was expected: send JSON")
    try:
        return _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{_name(kind)}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{_name(kind)}: not valid JSON: {error}") from None
    except RecursionError:
        raise WireError(ErrorCode.BAD_REQUEST, f"{_name(kind)}: nested too deeply: flatten it") from None


def convert(given: Any, kind: type[T], *, strict: bool = True) -> T:
    """Plain data as `kind`; without `strict` numbers may be text, as in a query.

    Raises:
        WireError: `bad_request`, as `decode`.
    """
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{_name(kind)}: {error}") from None


def refusal_in(reply: bytes) -> WireError | None:
    """The error that a peer answered with; None when its answer is none (the word may stand deeper in it)."""
    if b'"error"' not in reply:
        return None
    try:
        return WireError.of(decode(reply, ErrorReply, limit=len(reply)))
    except WireError:
        return None


def encode_fields(value: Any) -> bytes:
    """Free-form data to JSON; integers beyond 64 bits go through msgspec, which keeps them whole."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _encoder.encode(value)


def decode_fields(data: bytes) -> Any:
    """Free-form JSON to plain data; an integer stays one, however large (orjson makes floats beyond 64 bits).

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
