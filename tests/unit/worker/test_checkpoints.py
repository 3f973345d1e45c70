"""Checkpoints on disk: whole or not at all, and nowhere else than in their directory."""

import json
from pathlib import Path
from typing import Any

import pytest

from proto_schemas.errors import WireError
from vpl import compile_source
from worker import checkpoints
from worker.checkpoints import CheckpointStore, from_object, put_back, take

SOURCE = "stream Big = Door.where(held_ms > 10).emit(held_ms: held_ms)"
KEYS = {"v", "pipeline", "source_sha256", "taken_at", "positions", "counters", "vars", "watermarks", "state"}


def taken(source: str = SOURCE) -> bytes:
    engine = compile_source(source).start()
    engine.process("Door", {"held_ms": 11}, 5)
    engine.take()
    return take(engine, "p", 123)


async def stored(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "made" / "later")
    await store.write("p-1", taken())
    return store


async def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    checkpoint = await (await stored(tmp_path)).read("p-1")
    assert checkpoint.pipeline == "p" and checkpoint.taken_at == 123
    engine = compile_source(SOURCE).start()
    put_back(engine, checkpoint)
    assert engine.counters["events_in"] == 1


async def test_a_newer_checkpoint_takes_the_place_of_the_older_and_leaves_no_draft(tmp_path: Path) -> None:
    store = await stored(tmp_path)
    await store.write("p-1", taken("stream Other = Door.emit(a: a)"))
    assert (await store.read("p-1")).source_sha256 != (compile_source(SOURCE).source_sha256)
    assert [path.name for path in (tmp_path / "made" / "later").iterdir()] == ["p-1.json.gz"]


@pytest.mark.parametrize("ref", ["../p-1", "/etc/passwd", "a/b", "..", "", "x" * 200, "p-1\0", "p-1\n"])
async def test_a_reference_leads_nowhere_else(tmp_path: Path, ref: str) -> None:
    store = await stored(tmp_path)
    with pytest.raises(WireError, match="checkpoint_ref") as refused:
        await store.read(ref)
    assert refused.value.code == "bad_request"


async def test_an_unknown_reference_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(WireError) as refused:
        await CheckpointStore(tmp_path).read("nothing")
    assert refused.value.code == "not_found"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
async def test_a_damaged_file_is_refused_and_not_restored(tmp_path: Path, damage: str) -> None:
    store = await stored(tmp_path)
    path = tmp_path / "made" / "later" / "p-1.json.gz"
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "cut": data[:-9],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "foreign": b"not gzip",
        }[damage]
    )
    with pytest.raises(WireError) as refused:
        await store.read("p-1")
    assert refused.value.code == "bad_request"


async def test_a_file_that_unpacks_beyond_the_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await stored(tmp_path)
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 10)
    with pytest.raises(WireError, match="more than 10 bytes"):
        await store.read("p-1")


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
