"""The state as bytes: all of it comes back, in small parts, as of the moment it was asked for."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.machine import ClusterMachine
from coordinator.state import snapshot
from coordinator.state.model import State, Unpacked
from coordinator.state.records import (
    ApiKey,
    Cause,
    Connector,
    Drain,
    Event,
    KeyRole,
    Migration,
    Phase,
    Placement,
    Stray,
    Upload,
    Worker,
    WorkerStatus,
)
from coordinator.state.results import Done, Placed, Refused, Remembered
from coordinator.state.snapshot import FRAME_BYTES, FRAME_ITEMS, frames, read
from coordinator.state.trail import number_all
from coordinator.state.versions import Edition, Group, Revision
from proto_schemas.rest.groups import GroupSpec, PipelineSpec

NAMES = st.text("abcxyz-_0123", min_size=1, max_size=8)
TEXT = st.text(max_size=20)
NUMBERS = st.integers(0, 2**53)
SPECS = st.builds(
    GroupSpec,
    name=NAMES,
    pipelines=st.lists(st.builds(PipelineSpec, name=NAMES, source=TEXT), min_size=1, max_size=3),
)


def numbered(trail: list[Event]) -> list[Event]:
    """As the state holds them."""
    number_all(trail)
    return trail


STATES = st.builds(
    State,
    coordinators=st.dictionaries(NAMES, TEXT),
    workers=st.dictionaries(
        NAMES,
        st.builds(
            Worker,
            id=NAMES,
            session=NUMBERS,
            incarnation=st.none() | NAMES,
            address=TEXT,
            cpu_cores=NUMBERS,
            max_pipelines=NUMBERS,
            labels=st.dictionaries(NAMES, TEXT, max_size=3),
            version=st.none() | TEXT,
            status=st.sampled_from(WorkerStatus),
            registered_at=NUMBERS,
        ),
    ),
    groups=st.dictionaries(
        NAMES,
        st.builds(
            Group,
            spec=SPECS,
            consumes=st.dictionaries(NAMES, st.lists(NAMES, max_size=2), max_size=2),
            version=NUMBERS,
            created_at=NUMBERS,
            deleting=st.booleans(),
        ),
    ),
    placements=st.dictionaries(
        NAMES,
        st.dictionaries(
            NAMES,
            st.builds(
                Placement,
                phase=st.sampled_from(Phase),
                epoch=NUMBERS,
                worker_id=st.none() | NAMES,
                pipeline_id=st.none() | NAMES,
                reason=st.none() | TEXT,
                attempts=NUMBERS,
            ),
        ),
    ),
    strays=st.dictionaries(
        NAMES,
        st.builds(Stray, worker_id=NAMES, pipeline_id=NAMES, group=NAMES, pipeline=NAMES, epoch=NUMBERS),
    ),
    epochs=NUMBERS,
    sessions=NUMBERS,
    remembered=st.dictionaries(
        NAMES,
        st.builds(
            Remembered,
            about=TEXT,
            result=st.builds(Done)
            | st.builds(Placed, epoch=NUMBERS)
            | st.builds(Refused, code=TEXT, error=TEXT),
            words=NUMBERS,
        ),
    ),
    audit=st.lists(st.builds(Event, at=NUMBERS, by=TEXT, what=TEXT, about=TEXT, why=TEXT)).map(numbered),
    parts=st.dictionaries(st.integers(0, 500), st.binary(max_size=50)),
)


def whole(state: State) -> bytes:
    return b"".join(frames(state))


def one_of_each(copies: int = 1) -> State:
    """Each dictionary, and the trail, holds `copies` items."""
    names = [f"n{number}" for number in range(copies)]
    spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="s" * 50)])
    revision = Revision(version=1, spec=spec, consumes={"p": ["In"]})
    history = (
        Edition(version=1, at=5, by="api", why="first", revision=revision, size=99, failed="no"),
        Edition(version=2, at=6, by="api"),
    )
    worker = Worker(id="w", session=1, address="a", cpu_cores=1, max_pipelines=5, registered_at=7)
    connector = Connector(
        name="Bus", connector_type="nats", params={"servers": "nats://x"}, created_at=1, updated_at=2
    )
    stray = Stray(worker_id="w", pipeline_id="p-1", group="g", pipeline="p", epoch=3)
    upload = Upload(id="u", size=4, crc=1, cluster="x", taken_at=1, last_index=2, began=3, until=4)
    move = Migration(
        id="m-9",
        group="g",
        pipeline="p",
        cause=Cause.DRAIN,
        from_worker="w",
        from_epoch=3,
        to_worker="v",
        to_epoch=9,
        to_session=1,
        queue=3,
        from_pipeline_id="p-1",
        started_at=5,
    )
    drain = Drain(id="d-8", worker_id="w", session=1, cause=Cause.MANUAL, total=1, started_at=5)
    return State(
        migrations=dict.fromkeys(names, move),
        ended_migrations=dict.fromkeys(names, move),
        drains=dict.fromkeys(names, drain),
        ended_drains=dict.fromkeys(names, drain),
        coordinators=dict.fromkeys(names, "url"),
        workers=dict.fromkeys(names, worker),
        groups=dict.fromkeys(names, Group(spec=spec, consumes={"p": ["In"]}, created_at=5, history=history)),
        placements={name: {"p": Placement(epoch=number)} for number, name in enumerate(names)},
        strays=dict.fromkeys(names, stray),
        connectors=dict.fromkeys(names, connector),
        epochs=11,
        sessions=12,
        remembered=dict.fromkeys(names, Remembered("create g", Done(), 77)),
        keys=dict.fromkeys(names, ApiKey(id="k", role=KeyRole.VIEWER, salt=b"s", digest=b"d", created_at=1)),
        audit=[Event(seq=at + 1, at=at, by="api", what="w", about="g") for at in range(copies)],
        uploads=dict.fromkeys(names, upload),
        parts=dict.fromkeys(range(copies), b"part"),
    )


@given(STATES)
@settings(max_examples=60)
def test_every_state_comes_back_and_gives_the_same_bytes_again(state: State) -> None:
    data = whole(state)
    back = read(data)
    assert back == state and msgspec.msgpack.encode(back) == msgspec.msgpack.encode(state)
    assert whole(back) == data == whole(state)


@given(STATES)
@settings(max_examples=20)
def test_a_snapshot_of_format_1_is_read(state: State) -> None:
    machine = ClusterMachine()
    machine.restore(msgspec.msgpack.encode({"format": 1, "state": state}))
    assert machine.state == state


def test_kinds_that_came_later_are_not_spoken_of_while_they_are_empty() -> None:
    """An older reader compares the counts, and knows seven kinds."""
    state = one_of_each()
    for kind in {*snapshot._KINDS} - {*snapshot._FIRST_KINDS}:
        getattr(state, kind).clear()
    header = msgspec.msgpack.decode(next(iter(frames(state)))[len(b"CLUSTATE") + 4 :])
    assert set(header[3]) == {*snapshot._FIRST_KINDS}
    assert read(whole(state)) == state


def test_every_field_of_the_state_is_in_the_snapshot() -> None:
    """A field that is added to `State` has to be added here too; what follows from others does not."""
    kept = {*snapshot._KINDS, "epochs", "sessions"}
    assert set(State.__struct_fields__) == {*kept, "unpacked"}
    empty, full = State(), read(whole(one_of_each()))
    assert all(getattr(full, field) != getattr(empty, field) for field in kept)


def test_without_jobs_a_snapshot_is_what_a_version_without_jobs_reads() -> None:
    state = one_of_each()
    for kind in ("migrations", "ended_migrations", "drains", "ended_drains"):
        setattr(state, kind, {})
    assert b"migrations" not in whole(state) and b"drains" not in whole(state)
    assert read(whole(state)) == state


def forget_placement(state: State) -> None:
    state.placements["n0"]["p"] = Placement(phase=Phase.RUNNING, epoch=99)


@pytest.mark.parametrize(
    "change",
    [
        forget_placement,
        lambda state: state.placements.pop("n0"),
        lambda state: state.audit.append(Event(at=9, by="x", what="y", about="z")),
        lambda state: state.audit.__delitem__(0),
        lambda state: state.workers.clear(),
        lambda state: state.groups.pop("n0"),
        lambda state: state.strays.update(new=state.strays["n0"]),
        lambda state: state.remembered.clear(),
        lambda state: state.coordinators.update(n0="elsewhere"),
        lambda state: setattr(state, "epochs", 5_000),
    ],
)
def test_parts_hold_the_state_of_the_moment_of_the_call(change: Callable[[State], Any]) -> None:
    state, machine = one_of_each(3), ClusterMachine()
    machine.state = state
    before, parts = whole(state), machine.snapshot()
    change(state)
    assert whole(state) != before
    assert b"".join(parts) == before


def test_frames_are_small_by_items_and_by_bytes() -> None:
    parts = list(frames(one_of_each(FRAME_ITEMS * 2 + 1)))
    assert len(parts) == 1 + len(snapshot._KINDS) * 3
    heavy = State()
    for number in range(100):
        spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="s" * 20_000)])
        heavy.groups[f"g{number}"] = Group(spec=spec, consumes={}, created_at=1)
    sizes = [len(part) for part in frames(heavy)]
    assert len(sizes) > 10 and max(sizes) < FRAME_BYTES + 21_000
    assert read(whole(heavy)) == heavy


def test_a_snapshot_cut_at_any_byte_is_refused() -> None:
    data = whole(one_of_each(2))
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"cannot be read: .*check which version wrote it, and the disk"):
            read(data[:end])


def test_a_damaged_snapshot_is_refused_or_read_and_never_breaks_the_reader() -> None:
    data, refused = whole(one_of_each(2)), 0
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            try:
                read(bytes(damaged))
            except ValueError:
                refused += 1
    assert refused > len(data), "what is left are other letters and numbers; the file's checksum finds those"


def test_a_part_that_is_missing_or_there_twice_is_refused() -> None:
    parts = list(frames(one_of_each(FRAME_ITEMS + 1)))
    for wrong in (parts[:5] + parts[6:], [*parts, parts[-1]]):
        with pytest.raises(ValueError, match="should hold"):
            read(b"".join(wrong))


@pytest.mark.parametrize("version", [0, 1, 4, 99])
def test_a_format_of_the_future_is_refused_by_its_number(version: int) -> None:
    header = snapshot._framed((version, {"another": "header"}, 3))
    with pytest.raises(ValueError, match=f"has format {version}, .* run the version that wrote it"):
        read(b"CLUSTATE" + header + snapshot._framed(("unheard-of", 1)))
    if version != 1:
        with pytest.raises(ValueError, match=f"has format {version}, "):
            read(msgspec.msgpack.encode({"format": version, "state": State()}))


@given(STATES, st.lists(st.integers(0, 2_000), max_size=10))
@settings(max_examples=60)
def test_a_state_that_comes_in_pieces_is_the_same_wherever_it_was_cut(state: State, cuts: list[int]) -> None:
    data, so_far = whole(state), Unpacked(state=State())
    at = len(data) - len(b"".join(list(frames(state))[1:]))
    for end in [*sorted(cut for cut in cuts if at < cut < len(data)), len(data)]:
        snapshot.read_on(so_far, data[0 if so_far.counts is None else at : end])
        at = end
    snapshot.check_counts(so_far.state, so_far.counts or {})
    assert so_far.state == state and not so_far.rest


def test_pieces_that_are_no_state_are_refused_at_once() -> None:
    data = whole(one_of_each())
    for wrong in (b"", b"CLUSTAT", b"nothing of ours", data[:20], data[8:], b"CLUSTATE\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="cannot be read"):
            snapshot.read_on(Unpacked(state=State()), wrong)
    so_far = Unpacked(state=State())
    snapshot.read_on(so_far, data)
    with pytest.raises(ValueError, match=r"a frame of \d+ bytes"):
        snapshot.read_on(so_far, b"\xff\xff\xff\xff")


def test_a_snapshot_of_format_2_is_read_and_one_of_format_1_is_made_new_for_reading_in_pieces() -> None:
    state = one_of_each(2)
    state.uploads, state.parts = {}, {}
    newest = whole(state)
    first = next(iter(frames(state)))
    counts = dict.fromkeys(set(snapshot._KINDS) - {"uploads", "parts"}, 2)
    second = b"CLUSTATE" + snapshot._framed((2, state.epochs, state.sessions, counts)) + newest[len(first) :]
    assert read(second) == state
    assert (
        snapshot.as_newest(memoryview(second)) == second and snapshot.as_newest(memoryview(newest)) == newest
    )
    first_format = msgspec.msgpack.encode({"format": 1, "state": state})
    assert snapshot.as_newest(memoryview(first_format)) == newest
    for wrong in (b"", b"xyz", b"CLUSTATE" + snapshot._framed((9, "a header of the future"))):
        with pytest.raises(ValueError, match=r"cannot be read|has format 9"):
            snapshot.as_newest(memoryview(wrong))
