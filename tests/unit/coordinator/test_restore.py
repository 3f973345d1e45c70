"""A copy becomes the state: whole or not at all, by one command, and nothing that counts on the old state is
cheated."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.machine import ClusterMachine
from coordinator.state import restore
from coordinator.state.apply import Applied
from coordinator.state.commands import (
    BeginRestore,
    Command,
    CommitRestore,
    CreateGroup,
    CreateKey,
    DeleteGroup,
    Displace,
    EndUpdate,
    LetGo,
    Place,
    PutPart,
    RaiseEpochs,
    RevokeKey,
    SaveConnector,
    StartDrain,
    StartMigration,
    UpdateGroup,
    encode_command,
)
from coordinator.state.limits import MAX_COPY, MAX_STRAYS
from coordinator.state.model import State
from coordinator.state.records import Cause, KeyRole, MovePhase, Phase, Placement, WorkerStatus
from coordinator.state.restore import PATIENCE_MS
from coordinator.state.results import Done, Placed, Refused, Restored, Started
from coordinator.state.snapshot import frames
from coordinator.state.versions import UpdatePhase
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.unit.coordinator.worlds import World

PART = 200


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """So that a small state has many."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(restore, "PART_BYTES", PART)
        yield


def as_bytes(state: State) -> bytes:
    return b"".join(frames(state))


def begin(data: bytes, upload: str = "u", **changes: Any) -> dict[str, Any]:
    fields = {"upload": upload, "size": len(data), "crc": google_crc32c.value(data), "key": f"key:{upload}"}
    return {**fields, "cluster": "x", "taken_at": 5, "last_index": 17, **changes}


def parts(data: bytes, upload: str = "u") -> list[dict[str, Any]]:
    cut = [data[at : at + PART] for at in range(0, len(data), PART)]
    return [{"upload": upload, "number": number, "data": part} for number, part in enumerate(cut)]


def send(world: World, data: bytes, **changes: Any) -> None:
    assert world.do(BeginRestore, **begin(data, **changes)).result == Done()
    for part in parts(data, changes.get("upload", "u")):
        assert world.do(PutPart, **part).result == Done()


def commit(world: World, upload: str = "u") -> Applied:
    return world.do(CommitRestore, f"key:{upload}", upload=upload)


def restored(world: World, data: bytes) -> Restored:
    send(world, data)
    result = commit(world).result
    assert isinstance(result, Restored)
    return result


def create(world: World, name: str, source: str) -> None:
    spec = GroupSpec(name=name, pipelines=[PipelineSpec(name="p", source=source)])
    assert world.do(CreateGroup, spec=spec, consumes={}).result == Done()


def two_groups() -> World:
    """`a` and `b` run on `w1` and `w2`."""
    world = World()
    for name in ("w1", "w2"):
        world.worker(name)
    for name in ("a", "b"):
        world.group(name, "p", "q")
        world.run(name, "p", "w1")
        world.run(name, "q", "w2")
    return world


def refusal(applied: Applied) -> Refused:
    assert isinstance(applied.result, Refused)
    return applied.result


# -- what the new state is made of ----------------------------------------------------------------


def test_what_the_copy_has_and_runs_unchanged_goes_on_and_the_rest_is_as_the_copy_says() -> None:
    world = two_groups()
    data, a_before = as_bytes(world.state), dict(world.state.placements["a"])
    world.do(DeleteGroup, group="b")
    world.group("c", "p")
    newest = world.run("c", "p", "w1")
    result = restored(world, data)
    state = world.state
    assert result == Restored(groups=2, pipelines=4, kept=2)
    assert set(state.groups) == set(state.placements) == {"a", "b"}
    assert state.placements["a"] == a_before, "nobody touches what runs as it should"
    anew = list(state.placements["b"].values())
    assert anew == [Placement()] * len(anew) != [], "b was let go of, and is placed anew"
    assert not state.groups["b"].deleting
    assert state.epochs == newest
    assert {(stray.group, stray.epoch) for stray in state.strays.values()} == {("b", 3), ("b", 4), ("c", 5)}
    assert not state.uploads and not state.parts and state.unpacked is None


def test_every_epoch_after_a_restore_is_above_all_that_either_state_gave() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    world.do(RaiseEpochs, epoch=900)
    world.do(DeleteGroup, group="b")
    restored(world, data)
    assert world.place("b", "p", "w1") == 901
    fresh = World()
    fresh.worker("w1")
    world.do(RaiseEpochs, epoch=5_000)
    restored(fresh, as_bytes(world.state))
    assert fresh.place("a", "p", "w1") == 5_001


def test_a_group_of_the_same_name_and_another_program_is_placed_anew_and_no_old_copy_passes_for_it() -> None:
    world = World()
    world.worker("w1")
    create(world, "g", "first")
    old = world.run("g", "p", "w1")
    data = as_bytes(world.state)
    world.do(DeleteGroup, group="g")
    world.do(RaiseEpochs, epoch=old)
    world.step(LetGo, "g", "p", confirmed=True)
    create(world, "g", "second")
    running = world.run("g", "p", "w1")
    assert restored(world, data).kept == 0
    assert world.state.groups["g"].spec.pipelines[0].source == "first"
    assert world.placement("g", "p") == Placement(), "under no epoch: neither the first nor the second passes"
    (stray,) = world.state.strays.values()
    assert (stray.group, stray.epoch) == ("g", running)


def test_a_group_that_was_being_torn_down_is_not_brought_back() -> None:
    world = two_groups()
    world.do(DeleteGroup, group="a")
    data = as_bytes(world.state)
    assert restored(world, data).groups == 1
    assert set(world.state.groups) == {"b"}


def test_workers_stay_and_those_only_the_copy_knows_wait_to_be_heard_in_a_session_of_their_own() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    now = World()
    now.worker("w2", incarnation="another life")
    now.worker("w3")
    kept = dict(now.state.workers)
    sessions = {worker.session for worker in kept.values()}
    restored(now, data)
    assert now.state.workers | kept == now.state.workers and set(now.state.workers) == {"w1", "w2", "w3"}
    back = now.state.workers["w1"]
    assert back.status is WorkerStatus.UNHEALTHY
    assert back.session > max(sessions | {worker.session for worker in world.state.workers.values()})


def test_replicas_share_a_queue_with_those_that_go_on_and_not_with_what_is_ended() -> None:
    """The queue group of replicas is named by the life of their group."""
    world = World()
    for name in ("w1", "w2"):
        world.worker(name)
    spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="s", replicas=2)])

    def create_and_run() -> int:
        assert world.do(CreateGroup, spec=spec, consumes={}).result == Done()
        for number in range(2):
            world.run("g", f"p-{number}", f"w{number + 1}")
        return world.state.groups["g"].created_at

    create_and_run()
    data = as_bytes(world.state)
    world.do(DeleteGroup, group="g")
    for number in range(2):
        world.step(LetGo, "g", f"p-{number}", confirmed=True)
    second = create_and_run()
    assert restored(world, data).kept == 2
    assert world.state.groups["g"].created_at == second, "those that run, and those that are placed later"
    world.do(DeleteGroup, group="g")
    send(world, data, upload="second", key="key:second")
    assert commit(world, "second").result == Restored(groups=1, pipelines=2, kept=0)
    assert world.state.groups["g"].created_at == world.now
    assert set(world.state.placements["g"]) == {"p-0", "p-1"}


def test_a_move_of_what_goes_on_goes_on_and_any_other_ends_because_of_the_restore() -> None:
    world = two_groups()
    world.worker("w3")
    data = as_bytes(world.state)
    world.do(DeleteGroup, group="b")
    for pipeline in ("p", "q"):
        world.step(LetGo, "b", pipeline, confirmed=True)
    create(world, "b", "second")
    world.run("b", "p", "w1")
    ids = {}
    for group in ("a", "b"):
        started = world.step(StartMigration, group, "p", to_worker="w3", cause=Cause.MANUAL).result
        assert isinstance(started, Started)
        ids[group] = started.id
    drain = world.do(StartDrain, worker_id="w2", cause=Cause.MANUAL).result
    assert isinstance(drain, Started)
    restored(world, data)
    state = world.state
    assert set(state.migrations) == {ids["a"]} and set(state.drains) == {drain.id}
    assert state.workers["w2"].cordoned
    ended = state.ended_migrations[ids["b"]]
    assert (ended.phase, ended.reason) == (MovePhase.FAILED, "the state was restored")
    assert state.slots_taken("w3") == 1


def test_jobs_of_a_copy_do_not_come_back() -> None:
    world = two_groups()
    before = as_bytes(world.state)
    world.step(StartMigration, "a", "p", to_worker="w2", cause=Cause.MANUAL)
    world.do(StartDrain, worker_id="w2", cause=Cause.MANUAL)
    data, then = as_bytes(world.state), two_groups()
    assert as_bytes(then.state) == before
    restored(then, data)
    assert not then.state.migrations and not then.state.drains and not then.state.workers["w2"].cordoned


def test_what_a_worker_holds_is_known_after_a_restore() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    world.do(DeleteGroup, group="b")
    assert world.state.count_on("w1") == 2
    restored(world, data)
    assert world.state.count_on("w1") == 1
    world.run("b", "p", "w1")
    assert [entry[:2] for entry in world.state.placed_on("w1")] == [("a", "p"), ("b", "p")]


def test_connectors_are_those_of_the_copy() -> None:
    world = World()
    world.do(SaveConnector, name="a", connector_type="nats", params={"servers": "old"}, new=True)
    data, before = as_bytes(world.state), dict(world.state.connectors)
    world.do(SaveConnector, name="a", connector_type="nats", params={"servers": "new"}, new=False)
    world.do(SaveConnector, name="b", connector_type="memory", params={}, new=True)
    restored(world, data)
    assert world.state.connectors == before and set(before) == {"a"}


def test_api_keys_are_those_of_the_running_cluster() -> None:
    """An old copy lets nobody in whose key was revoked since, and locks nobody out."""
    world = World()
    for name in ("old", "gone"):
        world.do(CreateKey, key_id=name, role=KeyRole.ADMIN, salt=b"s", digest=b"d")
    data = as_bytes(world.state)
    world.do(RevokeKey, key_id="gone")
    world.do(CreateKey, key_id="new", role=KeyRole.ADMIN, salt=b"s", digest=b"d")
    before = dict(world.state.keys)
    restored(world, data)
    assert world.state.keys == before
    assert [key.id for key in before.values() if key.counts(world.now)] == ["old", "new"]


def test_the_trail_is_the_running_clusters_and_tells_who_restored_what_and_when() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    world.group("c", "p")
    world.do(DeleteGroup, group="b")
    for pipeline in ("p", "q"):
        world.step(LetGo, "b", pipeline, confirmed=True)
    before = list(world.state.audit)
    restored(world, data)
    assert world.state.audit[: len(before)] == before
    last = world.state.audit[-1]
    assert (last.what, last.about, last.by, last.at) == ("state_restored", "x@17", "test", world.now)
    assert "gone: c; back: b" in last.why and "taken at 5 ms" in last.why


def test_writes_of_before_and_of_the_copy_get_their_first_answers() -> None:
    world = World()
    world.worker("w1")
    world.group("a", "p", request_id="old")
    data = as_bytes(world.state)
    world.group("b", "p", request_id="new")
    result = restored(world, data)
    events = len(world.state.audit)
    assert world.group("b", "p", request_id="new").result == Done()
    assert world.group("a", "p", request_id="old").result == Done()
    assert commit(world).result == result, "the restore itself too"
    assert len(world.state.audit) == events and set(world.state.groups) == {"a"}


def test_what_a_seed_worker_runs_is_written_down_first_when_there_is_not_room_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    data = as_bytes(world.state)
    world.worker("ours")
    world.worker("seed", incarnation=None)
    world.group("g", "a", "b", "c")
    for pipeline, worker in (("a", "ours"), ("b", "ours"), ("c", "seed")):
        world.run("g", pipeline, worker)
    monkeypatch.setattr(restore, "MAX_STRAYS", 2)
    restored(world, data)
    assert [stray.pipeline for stray in world.state.strays.values()] == ["c", "a"]
    assert MAX_STRAYS > 2


# -- refusals ----------------------------------------------------------------------------------------


def damaged(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (damaged, "checksum"),
        (lambda data: data[:-5], "not whole"),
        (lambda data: b"nothing" * 50, "begins with"),
        (lambda data: data[: len(data) // 2], "not whole|should hold"),
    ],
)
def test_a_copy_that_is_none_is_refused_and_changes_nothing(
    spoil: Callable[[bytes], bytes], text: str
) -> None:
    world = two_groups()
    good = as_bytes(world.state)
    world.group("c", "p")
    data = spoil(good)
    crc = google_crc32c.value(good if spoil is damaged else data)
    send(world, data, crc=crc)
    before = as_bytes(replace(world.state, remembered={}))
    refused = refusal(commit(world))
    assert refused.code == "bad_request" and not refused.retryable
    assert re.search(text, refused.error)
    assert as_bytes(replace(world.state, remembered={})) == before
    assert restored_under(world, good, "again").groups == 2, "another upload takes its place"


def restored_under(world: World, data: bytes, upload: str) -> Restored:
    assert world.do(BeginRestore, **begin(data, upload)).result == Done()
    for part in parts(data, upload):
        world.do(PutPart, **part)
    result = commit(world, upload).result
    assert isinstance(result, Restored)
    return result


def test_a_commit_before_the_copy_is_whole_can_be_repeated_once_it_is() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    assert refusal(commit(world)).retryable
    world.do(BeginRestore, **begin(data))
    first, *others = parts(data)
    for part in reversed(others):
        assert world.do(PutPart, **part).result == Done()
        assert refusal(commit(world)).code == "not_found"
    world.do(PutPart, **first)
    assert isinstance(commit(world).result, Restored)


@pytest.mark.parametrize("size", [0, -1, MAX_COPY + 1])
def test_a_size_that_cannot_be_is_refused_at_once(size: int) -> None:
    assert refusal(World().do(BeginRestore, **begin(b"x", size=size))).code == "bad_request"


def test_a_part_has_its_number_and_its_size_and_is_what_it_was() -> None:
    world = World()
    data = b"d" * (PART + 10)
    world.do(BeginRestore, **begin(data))
    for number, part in ((-1, data[:PART]), (2, b""), (0, data[:9]), (1, data[:PART])):
        assert refusal(world.do(PutPart, upload="u", number=number, data=part)).code == "bad_request"
    assert world.do(PutPart, upload="u", number=1, data=b"d" * 10).result == Done()
    assert world.do(PutPart, upload="u", number=1, data=b"d" * 10).result == Done()
    assert refusal(world.do(PutPart, upload="u", number=1, data=b"e" * 10)).code == "conflict"
    assert refusal(world.do(PutPart, upload="v", number=1, data=b"d" * 10)).code == "not_found"


def test_a_newer_begin_takes_the_place_and_an_older_one_that_was_held_up_does_not() -> None:
    world = World()
    data = as_bytes(two_groups().state)
    world.do(BeginRestore, **begin(data, "u"))
    world.do(PutPart, **parts(data)[0])
    world.do(BeginRestore, **begin(data, "v"))
    assert list(world.state.uploads) == ["v"] and not world.state.parts
    world.now -= 2
    assert refusal(world.do(BeginRestore, **begin(data, "u"))).code == "conflict"
    assert restored_under(world, data, "v").groups == 2
    assert world.do(BeginRestore, **begin(data, "v")).result == Done()
    assert not world.state.uploads, "what was done is not begun again"


def test_a_silent_upload_is_given_up_by_the_next_command_and_one_that_goes_on_is_not() -> None:
    world = World()
    data = as_bytes(two_groups().state)
    world.do(BeginRestore, **begin(data))
    for part in parts(data):
        world.now += PATIENCE_MS - 10
        assert world.do(PutPart, **part).result == Done()
    world.now += PATIENCE_MS + 1
    world.worker("w1")
    assert not world.state.uploads and not world.state.parts and world.state.unpacked is None
    assert [event.what for event in world.state.audit][-2:] == ["restore_given_up", "worker_registered"]
    assert refusal(commit(world)).code == "not_found"


# -- every replica, every interleaving ---------------------------------------------------------------


def copies() -> tuple[bytes, bytes]:
    other = World()
    other.worker("w9")
    other.group("z", "p")
    return as_bytes(two_groups().state), as_bytes(other.state)


ONE, OTHER = copies()


def script(data: bytes, upload: str) -> list[tuple[type[Command], dict[str, Any]]]:
    end = (CommitRestore, {"upload": upload, "request_id": f"key:{upload}"})
    return [(BeginRestore, begin(data, upload)), *((PutPart, part) for part in parts(data, upload)), end]


@given(st.data())
@settings(max_examples=150)
def test_two_uploaders_in_any_interleaving_give_the_old_state_or_one_copy_whole(draw: st.DataObject) -> None:
    """Commands are lost, repeated and out of order; replicas restart from snapshots; all stay the same."""
    said = script(ONE, "one") + script(OTHER, "two")
    order = draw.draw(st.lists(st.integers(0, len(said) - 1), max_size=3 * len(said)))
    if draw.draw(st.booleans()):
        order += range(len(said))
    restarts = draw.draw(st.sets(st.integers(0, len(order)), max_size=5))
    world = World()
    world.worker("w1")
    world.group("now", "p")
    machine, other = ClusterMachine(), ClusterMachine()
    machine.restore(as_bytes(world.state))
    other.restore(as_bytes(world.state))
    seen = {"now"}
    for index, number in enumerate(order):
        kind, fields = said[number]
        if index in restarts:
            fresh = ClusterMachine()
            fresh.restore(b"".join(other.snapshot()))
            other = fresh
        data = encode_command(kind(at=index + 100, by="t", **fields))
        result = machine.apply(index + 1, data)
        assert result == other.apply(index + 1, data)
        assert as_bytes(machine.state) == as_bytes(other.state)
        groups = set(machine.state.groups)
        assert groups in ({"now"}, {"a", "b"}, {"z"}) and groups == set(machine.state.placements)
        if groups != seen:
            assert kind is CommitRestore and msgspec.msgpack.decode(result)["is"] == "restored"
        seen = groups
        assert len(machine.state.uploads) <= 1
        held = next((upload.size for upload in machine.state.uploads.values()), 0)
        assert sum(map(len, machine.state.parts.values())) <= held
    if order[-len(said) :] == list(range(len(said))):
        assert seen == {"z"} or "key:two" in machine.state.remembered


def test_placements_of_the_new_state_move_as_ever() -> None:
    world = two_groups()
    data = as_bytes(world.state)
    world.do(DeleteGroup, group="b")
    restored(world, data)
    stale = world.do(Place, group="b", pipeline="p", epoch=3, worker_id="w1")
    assert refusal(stale).code == "stale_epoch"
    applied = world.step(Place, "b", "p", worker_id="w1")
    assert isinstance(applied.result, Placed) and world.placement("b", "p").phase is Phase.DEPLOYING


def updating(world: World, source: str, *, newest: bool = False) -> None:
    """Begin to give `g/p` another program; `newest`: and be done with it."""
    spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source)])
    world.do(UpdateGroup, spec=spec, consumes={})
    if newest:
        world.step(Displace, "g", "p", reason="r")
        world.run("g", "p", "w1")
        world.do(EndUpdate, group="g", version=world.state.groups["g"].version)


@pytest.mark.parametrize("in_copy", [True, False])
def test_no_update_goes_on_in_what_a_restore_makes_and_it_says_why(in_copy: bool) -> None:
    world = World()
    world.worker("w1")
    world.group("g", "p")
    world.run("g", "p", "w1")
    if in_copy:
        updating(world, "new")
    copy = as_bytes(world.state)
    if not in_copy:
        updating(world, "new")
        world.step(StartMigration, "g", "p", cause=Cause.UPDATE)
    before = world.state.epochs
    send(world, copy)
    assert isinstance(world.do(CommitRestore, upload="u").result, Restored)
    group = world.state.groups["g"]
    assert world.state.rolling == [] and world.state.migrations == {}
    assert group.spec.pipelines[0].source == "-", "the version that was known to run"
    assert world.placement("g", "p").phase is Phase.PENDING and world.state.epochs >= before
    assert group.newest == 2 and group.version == 1, "the number of the other one is not given again"
    if in_copy:
        assert group.update is not None and group.update.phase is UpdatePhase.FAILED
        assert group.update.reason == "the state was restored"


def test_a_group_that_was_updated_and_is_so_in_the_copy_too_goes_on() -> None:
    world = World()
    world.worker("w1")
    world.group("g", "p")
    world.run("g", "p", "w1")
    updating(world, "new", newest=True)
    present, placement = world.state.groups["g"], world.placement("g", "p")
    assert present.rolling is None and placement.phase is Phase.RUNNING
    send(world, as_bytes(world.state))
    assert isinstance(world.do(CommitRestore, upload="u").result, Restored)
    assert world.state.groups["g"] == present and world.placement("g", "p") == placement
