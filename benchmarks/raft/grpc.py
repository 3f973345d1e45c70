"""As much of gRPC as one unary call needs: etcd's own front door, without a gRPC library.

etcd's JSON gateway is a second server in front of the first and lowers its rate a good deal, so a comparison
through it would flatter us. Here a call is what etcd's Go client sends: HTTP/2 (RFC 9113) frames on one
connection for many calls, headers encoded once without a dynamic table, the message behind a prefix of five
bytes. Of an answer the message counts: a call that fails is answered with headers alone, so a stream that
ends without a message is an error. Flow control is obeyed when sending; our own windows are opened wide.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
HEADER_BYTES: Final = 9
FIRST_WINDOW: Final = 65_535
FRAME_LIMIT: Final = 16_384
INITIAL_WINDOW_SIZE: Final = 4
WIDE: Final = 2**30
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class GrpcError(Exception):
    """A call that got no message, or a connection that ended."""


@dataclass(slots=True)
class Call:
    """A stream: what is still to be sent, how much the peer takes, what has come."""

    done: asyncio.Future[bytes]
    unsent: bytes
    window: int
    message: bytearray = field(default_factory=bytearray)


class GrpcConnection(asyncio.Protocol):
    """One connection, many calls at once. Make it with `GrpcConnection.open`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._next_id = 1
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._blocked: deque[int] = deque()
        self._buffer = b""

    @classmethod
    async def open(cls, host: str, port: int) -> "GrpcConnection":
        """Connect; raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    def call(self, headers: bytes, message: bytes) -> "asyncio.Future[bytes]":
        """The answer's message; the future fails with `GrpcError`. `headers` comes from `request_headers`."""
        if self._transport is None:
            raise GrpcError("not connected")
        number, self._next_id = self._next_id, self._next_id + 2
        body = b"\0" + len(message).to_bytes(4, "big") + message
        call = Call(asyncio.get_running_loop().create_future(), body, self._stream_window)
        self._calls[number] = call
        head = frame(HEADERS, END_HEADERS, number, headers)
        self._transport.write(head + b"".join(self._sendable(number, call)))
        if call.unsent:
            self._blocked.append(number)
        return call.done

    def close(self) -> None:
        """End the connection and all calls on it."""
        if self._transport is not None:
            self._transport.close()

    # -- what asyncio calls --------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        wide = frame(WINDOW_UPDATE, 0, 0, WIDE.to_bytes(4, "big"))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, b"") + wide)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail_all(f"the connection ended: {exc or 'closed'}")

    def data_received(self, data: bytes) -> None:
        frames, self._buffer = split(self._buffer + data)
        for kind, flags, number, payload in frames:
            self._take(kind, flags, number, payload)
        if self._blocked:
            self._resume()

    # -- inside --------------------------------------------------

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        call = self._calls.get(number)
        if kind == DATA and call is not None:
            call.message += payload
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._finish(number)
        elif kind == RST_STREAM:
            self._finish(number, f"etcd reset the stream (code {int.from_bytes(payload, 'big')})")
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if number == 0:
                self._window += more
            elif call is not None:
                call.window += more
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._fail_all(f"etcd closes the connection: {payload[8:].decode(errors='replace')}")

    def _settings(self, payload: bytes) -> None:
        for what, value in struct.iter_unpack(">HI", payload):
            if what == INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._stream_window
                self._stream_window = value
        self._send(frame(SETTINGS, ACK, 0, b""))

    def _finish(
        self, number: int, cause: str = "etcd answered without a message: it refused the call"
    ) -> None:
        call = self._calls.pop(number, None)
        if call is None or call.done.done():
            return
        if len(call.message) > 5:
            call.done.set_result(bytes(call.message[5:]))
        else:
            call.done.set_exception(GrpcError(cause))

    def _fail_all(self, cause: str) -> None:
        for number in list(self._calls):
            call = self._calls.pop(number)
            if not call.done.done():
                call.done.set_exception(GrpcError(cause))

    def _resume(self) -> None:
        for _ in range(len(self._blocked)):
            number = self._blocked.popleft()
            call = self._calls.get(number)
            if call is not None:
                self._send(b"".join(self._sendable(number, call)))
                if call.unsent:
                    self._blocked.append(number)

    def _sendable(self, number: int, call: Call) -> Iterator[bytes]:
        """As many frames of a call as both windows take."""
        while call.unsent and (room := min(FRAME_LIMIT, self._window, call.window)) > 0:
            part, call.unsent = call.unsent[:room], call.unsent[room:]
            self._window -= len(part)
            call.window -= len(part)
            yield frame(DATA, 0 if call.unsent else END_STREAM, number, part)

    def _send(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, number) + payload


def split(data: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """The whole frames in `data` as (kind, flags, stream, payload), and what is left."""
    frames, at = [], 0
    while len(data) - at >= HEADER_BYTES:
        end = at + HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        kind, flags, number = struct.unpack(">BBI", data[at + 3 : at + HEADER_BYTES])
        frames.append((kind, flags, number & 0x7FFFFFFF, data[at + HEADER_BYTES : end]))
        at = end
    return frames, data[at:]


def request_headers(path: str, authority: str) -> bytes:
    """The header block of a call (RFC 7541): indexed names, literal values, nothing remembered."""
    method_post, scheme_http = b"\x83", b"\x86"
    return (
        method_post
        + scheme_http
        + b"\x04"
        + _text(path)
        + b"\x01"
        + _text(authority)
        + b"\x0f\x10"
        + _text("application/grpc")
        + b"\x00"
        + _text("te")
        + _text("trailers")
    )


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > 126:
        raise ValueError(f"{value!r} is longer than the 126 bytes that a header of ours may have")
    return bytes([len(data)]) + data


def field_bytes(number: int, value: bytes) -> bytes:
    """A protobuf field of type bytes."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
