"""The gRPC call of the benchmark, against a peer that speaks HTTP/2 over a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.raft import grpc
from benchmarks.raft.grpc import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    GrpcConnection,
    GrpcError,
    field_bytes,
    frame,
    request_headers,
    split,
)

Frame = tuple[int, int, int, bytes]
Answer = Callable[[Frame, bytes], bytes]
HEADS = request_headers("/etcdserverpb.KV/Put", "127.0.0.1:1")
TRAILERS = b"\x88"


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


@asynccontextmanager
async def peer(answer: Answer) -> AsyncIterator[tuple[GrpcConnection, list[Frame]]]:
    """A connection to a server that tells `answer` each frame, and the body of its stream so far."""
    seen: list[Frame] = []
    bodies: dict[int, bytes] = {}
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            writer.write(frame(SETTINGS, 0, 0, b""))
            rest = b""
            while data := await reader.read(65_536):
                frames, rest = split(rest + data)
                for each in frames:
                    seen.append(each)
                    if each[0] == DATA:
                        bodies[each[2]] = bodies.get(each[2], b"") + each[3]
                    writer.write(answer(each, bodies.get(each[2], b"")))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = await GrpcConnection.open("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(10):
            yield connection, seen
    finally:
        connection.close()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(task for task in serving if task is not None))


def echo(each: Frame, body: bytes) -> bytes:
    """The message back, once its stream ends; the window of the connection opened again at each frame."""
    kind, flags, number, payload = each
    if kind != DATA:
        return b""
    wider = frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
    wider += frame(WINDOW_UPDATE, 0, number, len(payload).to_bytes(4, "big"))
    if not flags & END_STREAM:
        return wider
    heads = frame(HEADERS, END_HEADERS, number, TRAILERS)
    return (
        wider + heads + frame(DATA, 0, number, body) + frame(HEADERS, END_HEADERS | END_STREAM, number, b"")
    )


async def test_many_calls_on_one_connection_get_their_own_answers() -> None:
    async with peer(echo) as (connection, seen):
        wanted = [b"%d" % number for number in range(20)]
        assert await asyncio.gather(*(connection.call(HEADS, each) for each in wanted)) == wanted
        while not any(kind == SETTINGS and flags & ACK for kind, flags, _, _ in seen):
            await asyncio.sleep(0.001)
    streams = [number for kind, _, number, _ in seen if kind == HEADERS]
    assert streams == list(range(1, 41, 2))


async def test_a_message_larger_than_the_window_goes_out_as_the_peer_makes_room() -> None:
    large = b"x" * 200_000
    async with peer(echo) as (connection, seen):
        assert await connection.call(HEADS, large) == large
    parts = [len(payload) for kind, _, _, payload in seen if kind == DATA]
    assert max(parts) <= grpc.FRAME_LIMIT and sum(parts) == len(message(large))


async def test_no_more_is_sent_than_the_window_takes() -> None:
    async with peer(lambda *_: b"") as (connection, seen):
        connection.call(HEADS, b"x" * 200_000)
        while sum(len(payload) for kind, _, _, payload in seen if kind == DATA) < grpc.FIRST_WINDOW:
            await asyncio.sleep(0.001)
        sent = sum(len(payload) for kind, _, _, payload in seen if kind == DATA)
    assert sent == grpc.FIRST_WINDOW


async def test_a_refused_call_is_an_error_and_no_answer() -> None:
    def refuse(each: Frame, _: bytes) -> bytes:
        ended = each[0] == DATA and each[1] & END_STREAM
        return frame(HEADERS, END_HEADERS | END_STREAM, each[2], TRAILERS) if ended else b""

    async with peer(refuse) as (connection, _):
        with pytest.raises(GrpcError, match="without a message"):
            await connection.call(HEADS, b"x")


async def test_calls_end_with_their_connection() -> None:
    async with peer(lambda *_: b"") as (connection, _):
        call = connection.call(HEADS, b"x")
        connection.close()
        with pytest.raises(GrpcError, match="the connection ended"):
            await call


def test_a_frame_that_comes_in_pieces_is_whole_in_the_end() -> None:
    data = frame(DATA, END_STREAM, 3, b"body") + frame(SETTINGS, 0, 0, b"")
    for cut in range(len(data)):
        first, rest = split(data[:cut])
        second, rest = split(rest + data[cut:])
        assert first + second == [(DATA, END_STREAM, 3, b"body"), (SETTINGS, 0, 0, b"")]
        assert rest == b""


def test_a_protobuf_field_tells_its_length_in_groups_of_seven_bits() -> None:
    assert field_bytes(1, b"key") == b"\x0a\x03key"
    assert field_bytes(2, b"v" * 300)[:3] == b"\x12\xac\x02"
