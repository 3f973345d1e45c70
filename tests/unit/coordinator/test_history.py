"""The last versions of a group: which are kept, what a rollback makes of them, and what it refuses."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from coordinator.state import snapshot
from coordinator.state.commands import CreateGroup, DeleteConnector, RollbackGroup, SaveConnector, UpdateGroup
from coordinator.state.history import MAX_BYTES, MAX_EDITIONS, known
from coordinator.state.results import Done, Refused
from coordinator.state.versions import Edition, Group, UpdatePhase
from coordinator.state.views import history_view
from proto_schemas.rest.groups import MAX_WHY, ROLLBACK_ASKED, GroupSpec
from tests.unit.coordinator.test_updates import end, fail, group, phase, put, roll, running, spec
from tests.unit.coordinator.worlds import World


def program(source: str) -> GroupSpec:
    return spec(("a", source))


def versions(world: World) -> list[tuple[int, str]]:
    return [(each.version, each.status) for each in history_view(group(world)).versions]


def goes_to(world: World, source: str, **fields: Any) -> None:
    """The group runs another program."""
    assert put(world, program(source), **fields) == Done()
    finished(world)


def finished(world: World) -> None:
    update = group(world).rolling
    for name in update.behind if update is not None else ():
        roll(world, name)
    assert end(world) == Done()


def back(world: World, to: int | None = None, **fields: Any) -> Any:
    return world.do(RollbackGroup, group="g", to=to, **fields).result


def source(world: World) -> str:
    return group(world).spec.pipelines[0].source


def test_each_version_is_written_down_with_who_when_and_why() -> None:
    world = running(program("1"))
    goes_to(world, "2", why="faster")
    first, second = known(group(world))
    assert (first.version, first.by, first.why) == (1, "test", "") and first.at == group(world).created_at
    assert (second.version, second.by, second.why) == (2, "test", "faster") and second.at > first.at
    assert first.revision is not None and first.revision.spec == program("1")
    assert second.revision is None, "the group itself is that"
    assert versions(world) == [(2, "present"), (1, "former")]


def test_a_rollback_is_an_update_to_what_was_before_under_a_new_number() -> None:
    world = running(program("1"))
    goes_to(world, "2")
    assert back(world, why="too many alarms") == Done()
    assert group(world).version == 3 and source(world) == "1" and phase(world) is UpdatePhase.ROLLING
    finished(world)
    assert versions(world) == [(3, "present"), (2, "former"), (1, "former")]
    told = [event for event in world.state.audit if event.what == "group_rollback_started"]
    assert [event.why for event in told] == [
        "version 2 to 3: 1 to deploy; as version 1: too many alarms"
    ] and told[0].by == "test"
    assert known(group(world))[-1].why == "as version 1: too many alarms"


def test_a_rollback_to_a_version_takes_that_one_and_what_it_is_already_changes_nothing() -> None:
    world = running(program("1"))
    for number in "234":
        goes_to(world, number)
    back(world, to=2)
    finished(world)
    assert (group(world).version, source(world)) == (5, "2")
    assert back(world, to=5) == Done() and group(world).version == 5
    assert back(world, to=2) == Done() and group(world).version == 5, "the spec is the same"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"to": 7}, "version 7 of group 'g' is not kept: choose one of 1, 2"),
        ({"if_version": 1}, "group 'g' has version 2, not 1"),
        ({"group": "h"}, "there is no group 'h'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(fields: dict[str, Any], told: str) -> None:
    world = running(program("1"))
    goes_to(world, "2")
    result = world.do(RollbackGroup, **{"group": "g", **fields}).result
    assert isinstance(result, Refused) and told in result.error and group(world).version == 2


def test_a_group_of_one_version_has_nothing_to_go_back_to() -> None:
    world = running(program("1"))
    result = back(world)
    assert isinstance(result, Refused) and "no version" in result.error


def test_a_version_that_failed_stays_with_its_reason_and_no_rollback_goes_there_by_itself() -> None:
    world = running(program("1"))
    goes_to(world, "2")
    put(world, program("bad"), why="hope")
    fail(world, "it does not work")
    assert end(world) == Done()
    assert versions(world) == [(3, "failed"), (2, "present"), (1, "former")]
    assert history_view(group(world)).versions[0].reason == "it does not work"
    back(world)
    assert source(world) == "1", "and not the one that failed, nor the present one"
    finished(world)
    assert back(world, to=3) == Done() and source(world) == "bad", "but who asks for it by number gets it"


def test_a_rollback_during_an_update_gives_that_up() -> None:
    world = running(program("1"))
    put(world, program("2"))
    assert back(world, why="stop") == Done()
    assert phase(world) is UpdatePhase.ROLLING_BACK and group(world).version == 1
    assert end(world) == Done()
    update = group(world).update
    assert update is not None and update.phase is UpdatePhase.ROLLED_BACK
    assert update.reason == f"{ROLLBACK_ASKED}: stop"
    assert versions(world) == [(2, "failed"), (1, "present")]
    what = [event.what for event in world.state.audit if event.what.startswith("group_")]
    assert what[-3:] == ["group_rollback_asked", "group_rolling_back", "group_rolled_back"]


def test_a_rollback_to_another_version_waits_for_the_update_under_way() -> None:
    world = running(program("1"))
    goes_to(world, "2")
    put(world, program("3"))
    result = back(world, to=1)
    assert isinstance(result, Refused) and "is rolling from version 2 to 3" in result.error
    assert back(world, to=2) == Done() and group(world).version == 2, "that is where giving it up leads"


def test_a_retried_rollback_is_one_rollback() -> None:
    world = running(program("1"))
    goes_to(world, "2")
    first = world.do(RollbackGroup, "key", group="g").result
    finished(world)
    assert world.do(RollbackGroup, "key", group="g").result == first == Done()
    assert (group(world).version, source(world)) == (3, "1")


def test_a_connector_that_is_gone_stands_in_the_way() -> None:
    world = running(program("1"))
    world.do(SaveConnector, name="Bus", connector_type="nats", params={}, new=True)
    world.do(UpdateGroup, spec=program("2"), consumes={}, connectors={"a": ["Bus"]})
    finished(world)
    goes_to(world, "3")
    assert world.do(DeleteConnector, name="Bus").result == Done(), "the history keeps nobody from it"
    result = back(world)
    assert isinstance(result, Refused) and "'Bus' is not registered any more" in result.error


def test_only_the_last_versions_are_kept() -> None:
    world = running(program("1"))
    for number in range(2, 10):
        goes_to(world, str(number))
    assert [version for version, _ in versions(world)] == [9, 8, 7, 6, 5]
    assert len(known(group(world))) == MAX_EDITIONS


def test_versions_that_failed_give_way_to_those_that_ran() -> None:
    world = running(program("1"))
    goes_to(world, "2")
    for number in range(MAX_EDITIONS + 2):
        put(world, program(f"bad {number}"))
        fail(world)
        end(world)
    kept = versions(world)
    assert len(kept) == MAX_EDITIONS
    assert kept[-2:] == [(2, "present"), (1, "former")] and {status for _, status in kept[:-2]} == {"failed"}


def test_large_versions_go_sooner_but_the_one_before_always_stays() -> None:
    world = running(program("1"))
    large = MAX_BYTES * 2 // 3
    for number in range(2, 6):
        goes_to(world, str(number) * large)
    assert [version for version, _ in versions(world)] == [5, 4, 3]
    goes_to(world, "6" * MAX_BYTES * 2)
    goes_to(world, "7")
    assert [version for version, _ in versions(world)] == [7, 6, 5]
    held = sum(each.size for each in known(group(world)) if each.version not in (7, 6))
    assert held <= MAX_BYTES


def test_a_group_from_before_there_was_a_history_gets_one() -> None:
    """As a snapshot of an older version holds it."""
    world = running(program("1"))
    world.state.write_group(replace(group(world), history=()))
    world.state.become(snapshot.read(b"".join(snapshot.frames(world.state))))
    assert "history" not in msgspec.to_builtins(group(world))
    assert versions(world) == [(1, "present")]
    goes_to(world, "2")
    assert back(world) == Done() and source(world) == "1"


def test_a_history_survives_a_snapshot() -> None:
    world = running(program("1"))
    goes_to(world, "2", why="w")
    before = known(group(world))
    world.state.become(snapshot.read(b"".join(snapshot.frames(world.state))))
    assert known(group(world)) == before
    assert back(world) == Done() and source(world) == "1"


def test_a_reason_has_a_bound() -> None:
    world = running(program("1"))
    goes_to(world, "2", why="x" * MAX_WHY)
    back(world, why="y" * MAX_WHY)
    assert all(len(each.why) <= MAX_WHY for each in known(group(world)))


def test_a_group_that_is_created_again_begins_its_history_anew() -> None:
    world = World()
    world.worker("w1")
    world.do(CreateGroup, spec=program("1"), consumes={}, why="for the demo")
    made: Group = group(world)
    assert made.history == (Edition(version=1, at=made.created_at, by="test", why="for the demo"),)
