"""Checkpoints as data: what is written is what is read, and what is none is refused."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from proto_schemas.errors import WireError
from proto_schemas.messages.moves import HeldEvent
from vpl import Engine, compile_source
from worker import checkpoints
from worker.checkpoints import from_object, lines, packed, put_back, take, unpacked
from worker.store.base import Damaged

SOURCE = "stream Big = Door.where(held_ms > 10).emit(held_ms: held_ms)"
KEYS = {"v", "pipeline", "source_sha256", "taken_at", "positions", "counters", "vars", "watermarks", "state"}


def taken(source: str = SOURCE) -> bytes:
    engine = compile_source(source).start()
    engine.process("Door", {"held_ms": 11}, 5)
    engine.take()
    return take(engine, "p", 123)


WINDOWS = """stream N = In.partition_by(k).window(9)
    .aggregate(k: last(k), n: count(), all: collect(v)).emit(k: k, n: n)
    stream T = In.partition_by(k).window(1h).aggregate(n: count()).emit(n: n)
    stream E = In.watermark(out_of_order: 5s).partition_by(k).window(1h).aggregate(n: count()).emit(n: n)
    stream S = In.partition_by(k).window(session: 1h).aggregate(n: count()).emit(n: n)
    stream M = In.partition_by(k).window(8, sliding: 2).aggregate(n: count()).emit(n: n)
    stream J = join(In, Out).on(In.k == Out.k).window(1h).emit(k: In.k)
    stream D = In.distinct(k).emit(k: k)
    stream L = In.limit(5).emit(k: k)
    stream C = timer(1h).emit()
    stream Q = In as a -> all In where k == a.k as more -> Out as o .within(1h).partition_by(k).emit()"""
"""Every kind of state that there is."""


def busy(keys: int) -> Engine:
    engine = compile_source(WINDOWS).start()
    for number in range(3 * keys):
        engine.process("In", {"k": f"key-{number % keys}", "v": number}, 1_000 + number)
    engine.take()
    return engine


async def given(pieces: Iterable[bytes], size: int = 0) -> AsyncIterator[bytes]:
    """The pieces, or all of them cut anew, `size` bytes each."""
    data = list(pieces)
    whole = b"".join(data)
    for piece in [whole[at : at + size] for at in range(0, len(whole), size)] if size else data:
        yield piece


@pytest.mark.parametrize("keys", [0, 1, checkpoints.ROWS, 5 * checkpoints.ROWS + 1])
@pytest.mark.parametrize("size", [0, 7, 10_000])
async def test_what_was_written_is_read_again_however_it_is_cut(keys: int, size: int) -> None:
    engine = busy(keys)
    held = [HeldEvent(subject="s", at=1, data=b"\x00{}")]
    checkpoint = await unpacked(given(packed(lines(engine, "p", 123, held)), size))
    assert (checkpoint.pipeline, checkpoint.taken_at, checkpoint.held) == ("p", 123, held)
    again = compile_source(WINDOWS).start()
    put_back(again, checkpoint)
    assert again.snapshot() == engine.snapshot()


def test_a_cut_is_of_the_moment_its_first_line_was_asked_for() -> None:
    engine = busy(3)
    written = lines(engine, "p", 1)
    first = next(written)
    engine.process("In", {"k": "key-0", "v": 1}, 9_999)
    assert b"".join([first, *written]) == b"".join(lines(busy(3), "p", 1))


async def test_long_rows_are_shared_out_over_lines_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LONG_LINE", 10_000)
    engine = compile_source("stream S = all A as xs -> B as b .within(1h).partition_by(k).emit()").start()
    for number in range(40_000):
        engine.process("A", {"k": number % 400, "v": "x" * 20}, number)
    written = list(lines(engine, "p", 1))
    assert max(map(len, written)) <= 10_000 and len(written) > 100
    again = compile_source("stream S = all A as xs -> B as b .within(1h).partition_by(k).emit()").start()
    put_back(again, await unpacked(given(packed(written))))
    assert again.snapshot() == engine.snapshot()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "short", "no rows", "no head"])
async def test_what_is_damaged_is_not_restored(damage: str) -> None:
    data = b"".join(packed(lines(busy(600), "p", 1)))
    middle = len(data) // 2
    broken = {
        "cut": data[:-9],
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
        "foreign": b"not gzip",
        "short": b"".join(packed([b'{"v":1'])),
        "no rows": b"".join(packed([b'{"v":1,"source_sha256":"","state":{}}\n', b'["N","window",[]]\n'])),
        "no head": b"".join(packed([b'["N","window",[]]\n'])),
    }[damage]
    with pytest.raises(Damaged):
        await unpacked(given([broken]))


async def test_what_unpacks_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 10)
    with pytest.raises(Damaged, match="more than 10 bytes"):
        await unpacked(given(packed(lines(busy(1), "p", 1))))


def test_a_checkpoint_has_every_key_also_when_there_is_nothing_to_say() -> None:
    assert set(json.loads(taken())) == KEYS


def test_another_programs_state_is_a_conflict() -> None:
    checkpoint = from_object(json.loads(taken("stream Other = Door.emit(a: a)")))
    with pytest.raises(WireError) as refused:
        put_back(compile_source(SOURCE).start(), checkpoint)
    assert refused.value.code == "conflict"


def test_a_newer_version_is_a_conflict_that_names_both() -> None:
    newer = json.loads(taken()) | {"v": 2}
    with pytest.raises(WireError, match="version 2, this worker reads up to 1") as refused:
        put_back(compile_source(SOURCE).start(), from_object(newer))
    assert refused.value.code == "conflict"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"v": "1"}, r"\$.v"),
        ({"v": -1}, r"\$.v"),
        ({"counters": {"a": "b"}}, r"\$.counters"),
        ({"state": []}, r"\$.state"),
    ],
)
def test_a_malformed_checkpoint_is_refused_with_the_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(WireError, match=path) as refused:
        from_object(json.loads(taken()) | change)
    assert refused.value.code == "bad_request"
