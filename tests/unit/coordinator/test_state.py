"""Members, groups, request ids, the trail, determinism and snapshots."""

import msgspec
import pytest

from coordinator.machine import ClusterMachine, decode_result
from coordinator.state import apply as apply_module
from coordinator.state.apply import apply
from coordinator.state.commands import (
    Announce,
    CreateGroup,
    DeleteGroup,
    Displace,
    ForgetStray,
    LetGo,
    MarkWorker,
    RegisterWorker,
    RemoveWorker,
    decode_command,
    encode_command,
)
from coordinator.state.limits import MAX_AUDIT
from coordinator.state.model import State
from coordinator.state.records import Phase, WorkerStatus
from coordinator.state.results import Done, Refused
from coordinator.state.snapshot import frames, read
from coordinator.state.views import group_view
from proto_schemas.messages.membership import RunningPipeline
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec
from raft.errors import EntryTooNew
from tests.unit.coordinator.worlds import World, in_phase, refused


def test_a_group_of_a_name_that_exists_is_refused() -> None:
    world = in_phase(Phase.PENDING)
    assert refused(world.group("g", "q")) == "conflict"


def test_a_group_is_refused_for_now_when_no_worker_is_ready() -> None:
    world = World()
    world.worker("w1")
    world.mark("w1", WorkerStatus.UNHEALTHY)
    applied = world.group("g", "p")
    assert refused(applied) == "unavailable"
    assert isinstance(applied.result, Refused) and applied.result.retryable


def test_a_group_is_refused_for_now_when_every_ready_worker_is_full() -> None:
    world = World()
    world.worker("w1", room=1)
    world.worker("w2", room=5)
    world.mark("w2", WorkerStatus.UNHEALTHY)
    world.group("g", "p")
    world.place("g", "p", "w1")
    applied = world.group("h", "p", request_id="r1")
    assert refused(applied) == "unavailable" and "h" not in world.state.groups
    assert isinstance(applied.result, Refused) and applied.result.retryable
    world.mark("w2", WorkerStatus.READY)
    assert isinstance(world.group("h", "p", request_id="r1").result, Done), "one that came back takes it"


def test_a_group_is_taken_when_there_is_room_for_part_of_it() -> None:
    world = World()
    world.worker("w1", room=1)
    assert isinstance(world.group("g", "a", "b").result, Done)


def test_a_group_is_gone_once_its_last_placement_is_let_go() -> None:
    world = World()
    world.worker("w1")
    world.group("g", "a", "b", "c")
    world.run("g", "a", "w1")
    world.run("g", "b", "w1")
    world.do(DeleteGroup, group="g")
    assert set(world.state.placements["g"]) == {"a", "b"}, "what nobody holds is gone at once"
    world.step(LetGo, "g", "a", confirmed=True)
    assert world.state.groups["g"].deleting
    world.step(LetGo, "g", "b", confirmed=False)
    assert world.state.groups == {} and world.state.placements == {}
    assert [stray.pipeline for stray in world.state.strays.values()] == ["b"]


def test_a_group_that_is_being_torn_down_keeps_its_name_for_the_moment() -> None:
    world = in_phase(Phase.REMOVING)
    applied = world.group("g", "p")
    assert isinstance(applied.result, Refused) and applied.result.retryable


def test_deleting_twice_is_fine_and_deleting_nothing_is_not() -> None:
    world = in_phase(Phase.REMOVING)
    assert isinstance(world.do(DeleteGroup, group="g").result, Done)
    assert refused(world.do(DeleteGroup, group="nope")) == "not_found"


def test_the_same_incarnation_registering_again_keeps_what_it_runs() -> None:
    world = in_phase(Phase.RUNNING)
    session = world.state.workers["w1"].session
    assert world.worker("w1") == session
    assert world.placement("g", "p").phase is Phase.RUNNING


def test_a_new_incarnation_has_its_pipelines_placed_again() -> None:
    world = in_phase(Phase.RUNNING)
    world.worker("w1", incarnation="i2")
    placement = world.placement("g", "p")
    assert placement.phase is Phase.PENDING and placement.worker_id is None
    assert placement.reason == "worker w1 restarted"
    assert world.state.strays == {}, "a new process runs nothing of the old one"


def test_a_new_incarnation_keeps_what_it_reports_to_run() -> None:
    world = in_phase(Phase.RUNNING)
    epoch = world.placement("g", "p").epoch
    copy = RunningPipeline(pipeline_id="p-new", group="g", name="p", epoch=epoch)
    world.worker("w1", incarnation="i2", pipelines=[copy])
    placement = world.placement("g", "p")
    assert (placement.phase, placement.pipeline_id) == (Phase.RUNNING, "p-new")


def test_a_seed_worker_that_registers_again_has_restarted_and_its_old_copy_is_a_stray() -> None:
    world = World()
    world.worker("w1", incarnation=None)
    world.group("g", "p")
    world.run("g", "p", "w1")
    world.worker("w1", incarnation=None)
    assert world.placement("g", "p").phase is Phase.PENDING
    assert [stray.worker_id for stray in world.state.strays.values()] == ["w1"]


def test_a_worker_that_holds_pipelines_is_only_removed_by_force() -> None:
    world = in_phase(Phase.RUNNING)
    assert refused(world.do(RemoveWorker, worker_id="w1")) == "conflict"
    assert isinstance(world.do(RemoveWorker, worker_id="w1", force=True).result, Done)
    assert world.state.workers == {}
    assert world.placement("g", "p").phase is Phase.PENDING
    assert len(world.state.strays) == 1


def test_a_verdict_about_an_older_session_is_refused() -> None:
    world = in_phase(Phase.PENDING)
    old = world.state.workers["w1"].session
    world.worker("w1", incarnation="i2")
    applied = world.do(
        MarkWorker, worker_id="w1", session=old, status=WorkerStatus.UNHEALTHY, reason="silent"
    )
    assert refused(applied) == "conflict"
    assert world.state.workers["w1"].status is WorkerStatus.READY


def test_the_api_key_of_a_worker_has_no_place_in_a_command() -> None:
    assert "api_key" not in RegisterWorker.__struct_fields__


# -- request ids --------------------------------------------------------------------------------------------


def test_a_request_id_gets_its_first_answer_again_and_acts_once() -> None:
    world = World()
    world.worker("w1")
    assert isinstance(world.group("g", "p", request_id="r1").result, Done)
    again = world.group("g", "p", request_id="r1")
    assert isinstance(again.result, Done) and again.events == ()
    assert refused(world.group("g", "p", request_id="r2")) == "conflict"


def test_a_request_id_used_for_something_else_is_a_conflict() -> None:
    world = World()
    world.worker("w1")
    world.group("g", "p", request_id="r1")
    assert refused(world.group("h", "p", request_id="r1")) == "conflict"
    assert refused(world.group("g", "another", request_id="r1")) == "conflict", "same name, other words"
    assert refused(world.do(DeleteGroup, "r1", group="g")) == "conflict"


def test_an_answer_that_says_later_is_not_kept() -> None:
    world = World()
    assert refused(world.group("g", "p", request_id="r1")) == "unavailable"
    world.worker("w1")
    assert isinstance(world.group("g", "p", request_id="r1").result, Done)


def test_request_ids_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_module, "MAX_REMEMBERED", 3)
    world = World()
    for number in range(5):
        world.do(Announce, f"r{number}", node_id="c0", url=str(number))
    assert list(world.state.remembered) == ["r2", "r3", "r4"]


def test_the_trail_is_bounded_and_keeps_the_latest() -> None:
    world = World()
    for number in range(MAX_AUDIT + 5):
        world.do(Announce, node_id="c0", url=str(number))
    assert len(world.state.audit) == MAX_AUDIT
    assert world.state.audit[-1].why == str(MAX_AUDIT + 4)


# -- bytes --------------------------------------------------------------------------------------------------


def test_the_same_commands_give_the_same_bytes_and_a_snapshot_brings_all_back() -> None:
    commands = [
        RegisterWorker(at=1, by="x", worker_id="w1", address="a", cpu_cores=1, max_pipelines=5),
        CreateGroup(
            at=2,
            by="api",
            request_id="r",
            spec=GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="s")]),
            consumes={"p": ["In"]},
        ),
        Displace(at=3, by="x", group="g", pipeline="p", epoch=9, reason="stale"),
        ForgetStray(at=4, by="x", worker_id="w1", pipeline_id="p-1"),
    ]
    one, two = ClusterMachine(), ClusterMachine()
    for index, command in enumerate(commands):
        data = encode_command(command)
        assert decode_command(data) == command
        assert one.apply(index, data) == two.apply(index, data)
    snapshot = b"".join(one.snapshot())
    assert b"".join(two.snapshot()) == snapshot
    three = ClusterMachine()
    three.restore(snapshot)
    assert three.state == one.state and b"".join(three.snapshot()) == snapshot


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x80", msgspec.msgpack.encode({"do": "launch"})])
def test_a_command_that_cannot_be_read_is_answered_and_changes_nothing(data: bytes) -> None:
    machine = ClusterMachine()
    result = decode_result(machine.apply(7, data))
    assert isinstance(result, Refused) and "7" in result.error
    assert machine.state == State() and machine.unreadable == 1


@pytest.mark.parametrize("do", ["launch", "announce"], ids=["another command", "another meaning"])
def test_a_command_of_a_later_format_is_not_applied_nor_skipped(do: str) -> None:
    machine = ClusterMachine()
    fields = {"do": do, "format": 2, "by": "x", "node_id": "c0", "url": "u", "more": 1}
    with pytest.raises(EntryTooNew, match="entry 7 is of format 2"):
        machine.apply(7, msgspec.msgpack.encode(fields))
    assert machine.state == State() and machine.unreadable == 0


def test_the_same_command_has_the_same_bytes_as_before_there_were_formats() -> None:
    command = Announce(at=1, by="x", node_id="c0", url="u")
    assert "format" not in msgspec.msgpack.decode(encode_command(command))


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([2, {}]), msgspec.msgpack.encode(1)])
def test_a_foreign_snapshot_is_refused_and_the_state_stays(data: bytes) -> None:
    machine = ClusterMachine()
    machine.apply(1, encode_command(Announce(at=1, by="x", node_id="c0", url="u")))
    with pytest.raises(ValueError, match="format"):
        machine.restore(data)
    assert machine.state.coordinators == {"c0": "u"}


def test_a_refusal_leaves_the_state_byte_for_byte_as_it_was() -> None:
    world = in_phase(Phase.RUNNING)
    before = msgspec.msgpack.encode(world.state)
    commands = [
        Displace(at=99, by="x", group="g", pipeline="p", epoch=0, reason="stale"),
        DeleteGroup(at=99, by="x", group="nope"),
        RemoveWorker(at=99, by="x", worker_id="w1"),
    ]
    for command in commands:
        assert isinstance(apply(world.state, command).result, Refused)
    assert msgspec.msgpack.encode(world.state) == before


def test_each_instance_of_a_pipeline_has_a_placement_of_its_own() -> None:
    world = World()
    world.worker("w1")
    pipelines = [PipelineSpec(name="many", source="-", replicas=3), PipelineSpec(name="one", source="-")]
    world.do(CreateGroup, spec=GroupSpec(name="g", pipelines=pipelines), consumes={})
    assert list(world.state.placements["g"]) == ["many-0", "many-1", "many-2", "one"]
    world.run("g", "many-1", "w1")
    group = world.state.groups["g"]
    assert group.pipeline("many-1") is group.pipelines["many"]
    view = group_view(world.state, group)
    assert [(each.pipeline_name, each.instance_of, each.instance) for each in view.placements] == [
        ("many-0", "many", 0),
        ("many-1", "many", 1),
        ("many-2", "many", 2),
        ("one", "one", 0),
    ]
    world.do(DeleteGroup, group="g")
    world.step(LetGo, "g", "many-1", confirmed=True)
    assert world.state.groups == {}


def test_a_group_is_refused_for_now_when_its_constraints_leave_no_worker() -> None:
    world = World()
    world.worker("w1", labels={"zone": "us"})
    eu = PipelineSpec(name="p", source="-", constraints=[Constraint(label="zone", op="=", value="eu")])
    applied = world.do(CreateGroup, spec=GroupSpec(name="g", pipelines=[eu]), consumes={})
    assert refused(applied) == "unavailable"
    assert isinstance(applied.result, Refused) and "1 worker: 1 lack zone=eu" in applied.result.error


def test_what_a_restored_state_says_of_a_restarted_worker_is_in_the_same_order() -> None:
    """The index is derived: in a restored state it is built at once, elsewhere it grew bit by bit."""
    world = World()
    world.worker("w1", room=50)
    for name in ("z", "a", "m"):
        world.group(name, "q", "p")
        world.place(name, "q", "w1")
        world.place(name, "p", "w1")
    restored = World()
    restored.state = read(b"".join(frames(world.state)))
    restored.now = world.now
    for each in (world, restored):
        each.worker("w1", incarnation="i2", room=50)
    assert world.state.audit == restored.state.audit
    assert b"".join(frames(world.state)) == b"".join(frames(restored.state))
