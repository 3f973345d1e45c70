"""The rules of checkpoints, held over every store: in memory, in a directory, in JetStream."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nats
import pytest

from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from transport.nats import NatsTransport
from worker.store import archive as rules
from worker.store.archive import KEPT, Archive
from worker.store.base import Damaged, Fenced, Manifest, Owner, Place, Ref, Store, Stored, StoreDown
from worker.store.directory import DirectoryStore
from worker.store.jetstream import BUCKET, JetStreamStore
from worker.store.memory import MemoryStore

PLACE = Place("g", "p-1")
KINDS = ("memory", "directory", "jetstream")


class Kept(NamedTuple):
    """A store, and how to reach behind its back."""

    store: Store
    kind: str
    root: Path
    server: NatsServer


@pytest.fixture(scope="module")
def jetstream() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


@pytest.fixture(params=KINDS)
async def kept(request: Any, tmp_path: Path, jetstream: NatsServer) -> AsyncIterator[Kept]:
    if request.param == "memory":
        yield Kept(MemoryStore(), "memory", tmp_path, jetstream)
    elif request.param == "directory":
        yield Kept(DirectoryStore(tmp_path), "directory", tmp_path, jetstream)
    else:
        bus = await NatsTransport.connect(NatsConfig(servers=(jetstream.url,)), wait=5)
        store = JetStreamStore(bus)
        yield Kept(store, "jetstream", tmp_path, jetstream)
        for place in (PLACE, Place("g", "other")):
            await store.forget(place)
        await bus.close()


def owner(epoch: int, life: int = 1) -> Owner:
    return Owner(PLACE, epoch, life)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def write(archive: Archive, epoch: int, *data: bytes, at: int = 1000, life: int = 1) -> Stored:
    return await archive.write(owner(epoch, life), pieces(*data), taken_at=at, source_sha256="sha")


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def newest(archive: Archive, epoch: int, life: int = 1) -> bytes | None:
    found = await archive.newest(PLACE, await archive.claim(owner(epoch, life)), whole)
    return found[1] if found is not None else None


async def names(kept: Kept) -> set[str]:
    """Of the checkpoints whose chunks lie in the store."""
    if isinstance(kept.store, MemoryStore):
        return {name for _, name in kept.store.chunks}
    if kept.kind == "directory":
        files = (path.name for path in (kept.root / "g" / "p-1").iterdir())
        return {name.partition(".")[0] for name in files if not name.startswith("manifest")}
    client = await nats.connect(kept.server.url)
    info = await client.jetstream().stream_info(f"OBJ_{BUCKET}", subjects_filter=f"$O.{BUCKET}.C.g.p-1.*")
    await client.close()
    return {subject.rpartition(".")[2] for subject in info.state.subjects or {}}


async def spoil(kept: Kept, stored: Stored, how: str) -> None:
    """Damage the second chunk of a checkpoint, or take it away, as a disk or an operator would."""
    if isinstance(kept.store, MemoryStore):
        chunks = kept.store.chunks[PLACE, stored.name]
        if how == "gone":
            del chunks[1]
        else:
            chunks[1] = b"x" + chunks[1][1:]
    elif kept.kind == "directory":
        path = kept.root / "g" / "p-1" / f"{stored.name}.1"
        data = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes({"torn": data[:-3], "changed": b"x" + data[1:]}[how])
    else:
        others = await names(kept) - {stored.name}  # JetStream lets no message be changed: it is there or not
        await kept.store.tidy(PLACE, others, stored.epoch)


async def test_what_was_written_is_found_by_the_next_epoch_in_chunks_of_a_bounded_size(kept: Kept) -> None:
    archive = Archive(kept.store)
    data = bytes(range(256)) * 3000
    stored = await write(archive, 3, data[:10], data[10:500_000], data[500_000:])
    assert [chunk.size for chunk in stored.chunks] == [rules.CHUNK, rules.CHUNK, len(data) - 2 * rules.CHUNK]
    assert await newest(archive, 4) == data
    assert archive.bytes_written == len(data)


async def test_the_last_three_stay_and_older_ones_are_removed(kept: Kept) -> None:
    archive = Archive(kept.store)
    stored = [await write(archive, 3, b"%d" % number, at=1000) for number in range(KEPT + 2)]
    assert await names(kept) == {each.name for each in stored[-KEPT:]}
    assert len({each.name for each in stored}) == len(stored), "also within one millisecond"
    before = await archive.claim(owner(4))
    assert [each.name for each in before.checkpoints] == [each.name for each in reversed(stored[-KEPT:])]


@pytest.mark.parametrize("how", ["torn", "changed", "gone"])
async def test_a_damaged_checkpoint_is_skipped_in_favour_of_the_one_before(kept: Kept, how: str) -> None:
    archive = Archive(kept.store)
    await write(archive, 3, b"a" * rules.CHUNK, b"older", at=1)
    await spoil(kept, await write(archive, 3, b"b" * rules.CHUNK, b"newer", at=2), how)
    assert await newest(archive, 4) == b"a" * rules.CHUNK + b"older"
    assert archive.damaged == 1


async def test_where_all_are_damaged_there_is_none(kept: Kept) -> None:
    archive = Archive(kept.store)
    await spoil(kept, await write(archive, 3, b"a" * rules.CHUNK, b"only"), "gone")
    assert await newest(archive, 4) is None
    assert archive.damaged == 1


async def test_a_copy_of_an_older_epoch_is_refused_and_nothing_of_it_is_taken(kept: Kept) -> None:
    archive, zombie = Archive(kept.store), Archive(kept.store)
    await write(zombie, 3, b"before")
    assert await newest(archive, 4) == b"before"
    with pytest.raises(Fenced) as fenced:
        await write(zombie, 3, b"after")
    assert (fenced.value.own, fenced.value.seen) == (3, 4)
    assert await newest(archive, 5) == b"before", "also when the new one has written nothing"


async def test_a_copy_that_freezes_in_the_middle_of_a_checkpoint_publishes_nothing_when_it_thaws(
    kept: Kept,
) -> None:
    archive, zombie = Archive(kept.store), Archive(kept.store)
    await write(zombie, 3, b"before")
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a" * rules.CHUNK
        frozen.set()
        await thaw.wait()
        yield b"the rest"

    late = asyncio.create_task(
        zombie.write(owner(3), slowly(), taken_at=9_000, source_sha256="sha"), name="zombie"
    )
    await frozen.wait()
    assert await newest(archive, 4) == b"before"
    await write(archive, 4, b"mine", at=2_000)
    thaw.set()
    with pytest.raises(Fenced):
        await late
    assert await newest(archive, 5) == b"mine"


async def test_of_two_that_publish_over_the_same_manifest_one_is_told(kept: Kept) -> None:
    """The race that no look beforehand excludes: both have read, and the older one publishes last."""
    archive, zombie = Archive(kept.store), Archive(kept.store)
    await write(zombie, 3, b"before")
    stale = await kept.store.manifest(PLACE)
    await archive.claim(owner(4))
    publish, read = kept.store.publish, kept.store.manifest
    asked: list[int] = []

    async def as_it_was(place: Place) -> tuple[Manifest | None, int]:
        asked.append(1)
        return stale if len(asked) <= 2 else await read(place)

    kept.store.manifest = as_it_was  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        await write(zombie, 3, b"after")
    assert len(asked) == 3 and publish == kept.store.publish
    kept.store.manifest = read  # type: ignore[method-assign]
    assert await newest(archive, 5) == b"before"


async def test_a_group_made_again_does_not_go_on_from_the_state_of_the_first(kept: Kept) -> None:
    archive = Archive(kept.store)
    await write(archive, 3, b"first life", life=1)
    assert await newest(archive, 4, life=2) is None
    await write(archive, 4, b"second life", life=2)
    assert await newest(archive, 5, life=2) == b"second life"
    with pytest.raises(Fenced):
        await write(archive, 3, b"first life", life=1)


async def test_what_is_forgotten_is_gone_unless_it_is_a_newer_copys(kept: Kept) -> None:
    archive = Archive(kept.store)
    await write(archive, 3, b"state")
    await archive.forget(owner(2))
    assert await newest(archive, 3) == b"state"
    await archive.forget(owner(3))
    assert (await archive.claim(owner(4))).epoch == 0


async def test_an_interrupted_write_leaves_nothing_that_counts_and_nothing_that_stays(kept: Kept) -> None:
    archive = Archive(kept.store)
    await write(archive, 3, b"before", at=1)

    async def broken() -> AsyncIterator[bytes]:
        yield b"a" * rules.CHUNK
        raise RuntimeError("the copying failed")

    with pytest.raises(RuntimeError):
        await archive.write(owner(3), broken(), taken_at=2, source_sha256="sha")
    assert await newest(archive, 3) == b"before"
    assert len(await names(kept)) == 2
    await write(archive, 3, b"after", at=3)
    assert len(await names(kept)) == 2


async def test_a_reference_names_one_checkpoint_or_the_newest(kept: Kept) -> None:
    archive = Archive(kept.store)
    first = await write(archive, 3, b"first", at=1)
    await write(archive, 3, b"second", at=2)
    assert await archive.one(Ref.read(f"g.p-1.{first.name}"), whole) == b"first"
    assert await archive.one(Ref.read("g.p-1"), whole) == b"second"
    for missing in ("g.p-1.3-77", "g.other"):
        with pytest.raises(LookupError):
            await archive.one(Ref.read(missing), whole)


@pytest.mark.parametrize(
    "ref", ["../p-1", "/etc/passwd", "g.", "g/p", "g..p", "", "x.y." + "9" * 40 + "-1", "g.p\n"]
)
def test_a_reference_leads_nowhere_else(ref: str) -> None:
    with pytest.raises(ValueError, match="checkpoint_ref"):
        Ref.read(ref)


@pytest.mark.parametrize(
    ("group", "pipeline"), [("..", "p"), ("g", "a/b"), ("", "p"), ("g", "~"), ("g", "a.b"), ("*", "p")]
)
def test_a_name_that_could_lead_elsewhere_names_no_place(group: str, pipeline: str) -> None:
    with pytest.raises(ValueError, match="names no place"):
        Place(group, pipeline)


async def test_a_checkpoint_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_SIZE", rules.CHUNK)
    with pytest.raises(ValueError, match="larger than"):
        await write(Archive(MemoryStore()), 3, b"a" * (rules.CHUNK + 1))


async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PATIENCE", 0.05)
    store = MemoryStore()
    store.hangs.clear()
    archive = Archive(store)
    with pytest.raises(StoreDown, match="not done within"):
        await write(archive, 3, b"a")


async def test_a_torn_manifest_gives_way_to_the_one_before(tmp_path: Path) -> None:
    archive = Archive(DirectoryStore(tmp_path))
    await write(archive, 3, b"older", at=1)
    await write(archive, 3, b"newer", at=2)
    manifest = max((tmp_path / "g" / "p-1").glob("manifest-*"))
    manifest.write_bytes(manifest.read_bytes()[:-5])
    assert await newest(archive, 4) == b"older"
    await write(archive, 4, b"newest", at=3)
    assert await newest(archive, 5) == b"newest"


async def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "g").write_text("a file where a directory should be")
    with pytest.raises(StoreDown, match="mend the disk"):
        await write(Archive(DirectoryStore(tmp_path)), 3, b"a")


async def test_without_jetstream_the_store_says_so(nats_server: NatsServer) -> None:
    bus = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,)), wait=5)
    with pytest.raises(StoreDown, match="is JetStream on"):
        await write(Archive(JetStreamStore(bus)), 3, b"a")
    await bus.close()


async def test_a_bucket_that_is_full_fails_the_write_and_keeps_what_it_has() -> None:
    with NatsServer(jetstream=True) as server:
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
        archive = Archive(JetStreamStore(bus, max_bytes=rules.CHUNK * 2))
        await write(archive, 3, b"small", at=1)
        with pytest.raises(StoreDown, match="maximum bytes exceeded"):
            await write(archive, 3, *[b"a" * rules.CHUNK] * 3, at=2)
        assert await newest(archive, 4) == b"small"
        await bus.close()


async def test_the_bucket_is_an_object_store_that_other_tools_read(jetstream: NatsServer) -> None:
    bus = await NatsTransport.connect(NatsConfig(servers=(jetstream.url,)), wait=5)
    await write(Archive(JetStreamStore(bus)), 3, b"a" * rules.CHUNK, b"end")
    bucket = await bus.jetstream().object_store(BUCKET)
    assert (await bucket.get("g/p-1")).data == b"a" * rules.CHUNK + b"end"
    await JetStreamStore(bus).forget(PLACE)
    await bus.close()


async def test_damage_is_told_from_absence() -> None:
    store = MemoryStore()
    await write(Archive(store), 3, b"a")
    store.chunks.clear()
    with pytest.raises(Damaged):
        await Archive(store).one(Ref(PLACE), whole)
