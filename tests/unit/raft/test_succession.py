"""Members change by sealed generations: nothing acknowledged is lost, whoever sleeps or dies meanwhile."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raft.codec import Append, encode
from raft.errors import ChangeRefused, NotLeader, Unavailable
from raft.generation import Generation
from raft.outcomes import Committed, Outcome
from tests.unit.raft.peer import Clock
from tests.unit.raft.town import Town

THREE = ("n1", "n2", "n3")


@pytest.fixture
def town(tmp_path: Path, clock: Clock) -> Iterator[Town]:
    town = Town(tmp_path, clock)
    yield town
    town.close()


@pytest.fixture
def three(town: Town) -> Town:
    town.start(*THREE)
    town.lead()
    for number in range(5):
        town.write(b"before %d" % number)
    return town


def joined(town: Town, name: str, members: tuple[str, ...] = THREE) -> None:
    town.start(name, members=members, join=True)


def test_a_newcomer_waits_until_it_is_invited(three: Town) -> None:
    joined(three, "n4")
    three.run(2.0)
    assert three.nodes["n4"].generation.number == 0
    assert three.machines["n4"].commands == [] and three.nodes["n4"].term == 0


def test_a_member_is_added(three: Town) -> None:
    joined(three, "n4")
    assert three.changed(add="n4") == Generation(2, (*THREE, "n4"), ())
    three.together(*THREE, "n4")


def test_a_dead_member_is_replaced_in_one_step(three: Town) -> None:
    dead = next(name for name in THREE if name != three.lead().config.node_id)
    three.stop(dead)
    joined(three, "n4")
    members = tuple(sorted({*THREE, "n4"} - {dead}))
    assert three.changed(add="n4", remove=dead) == Generation(2, members, (dead,))
    three.together(*members)


def test_the_leader_that_sealed_leads_the_next_generation(three: Town) -> None:
    leader = three.lead().config.node_id
    joined(three, "n4")
    three.changed(add="n4")
    assert three.lead().config.node_id == leader


def test_sequence_numbers_and_the_incarnation_go_on(three: Town) -> None:
    before = {name: node.letters for name, node in three.nodes.items()}
    joined(three, "n4")
    three.changed(add="n4")
    three.until(lambda: all(three.nodes[name].generation.number == 2 for name in THREE))
    for name, letters in before.items():
        now = three.nodes[name].letters
        assert now is not letters and now.incarnation == letters.incarnation
        assert now.last_seq > letters.last_seq


def test_who_slept_through_two_changes_comes_after(three: Town) -> None:
    sleeper = next(name for name in THREE if name != three.lead().config.node_id)
    three.stop(sleeper)
    for newcomer in ("n4", "n5"):
        joined(three, newcomer)
        three.changed(add=newcomer)
        three.write(b"with " + newcomer.encode())
    three.start(sleeper)
    three.together(*THREE, "n4", "n5")
    three.stop(sleeper)
    three.start(sleeper)
    three.together(*THREE, "n4", "n5")


def test_who_slept_and_was_removed_learns_it(three: Town) -> None:
    sleeper = next(name for name in THREE if name != three.lead().config.node_id)
    three.stop(sleeper)
    three.changed(remove=sleeper)
    three.start(sleeper)
    three.until(lambda: three.nodes[sleeper].failure)
    assert "removed from the cluster in generation 2" in str(three.nodes[sleeper].failure)


def test_a_member_that_lost_its_disk_follows_nobody(three: Town) -> None:
    lost = next(name for name in THREE if name != three.lead().config.node_id)
    joined(three, "n4")
    three.changed(add="n4")
    three.stop(lost)
    for path in sorted((three.configs[lost].data_dir).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    three.start(lost, members=tuple(name for name in THREE if name != lost), join=True)
    three.run(2.0)
    assert three.nodes[lost].generation.number == 0 and three.machines[lost].commands == []
    assert three.changed(add=lost).number == 2, "it is a member already"
    three.stop(lost)
    for path in sorted((three.configs[lost].data_dir).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    three.start(lost, members=THREE)
    three.until(lambda: three.nodes[lost].failure)
    assert "what it voted and acknowledged is lost" in str(three.nodes[lost].failure)


def test_a_learner_that_restarts_midway_is_added_all_the_same(three: Town) -> None:
    joined(three, "n4")
    ended = three.change(add="n4")
    three.until(lambda: three.nodes["n4"].learners)
    three.stop("n4")
    three.run(0.2)
    three.start("n4")
    three.until(lambda: ended)
    assert ended == [Generation(2, (*THREE, "n4"), ())]
    three.together(*THREE, "n4")


def test_a_second_change_at_the_same_time_is_refused(three: Town) -> None:
    joined(three, "n4")
    ended = three.change(add="n4")
    with pytest.raises(ChangeRefused, match="another change"):
        three.change(add="n5")
    three.until(lambda: ended)


def test_what_is_so_already_is_answered_as_it_is(three: Town) -> None:
    now = Generation(1, THREE)
    assert three.change(add="n1") == [now]
    assert three.change(remove="n9") == [now]
    assert three.change(add="n2", remove="n9") == [now]


def test_a_newcomer_that_does_not_answer_is_refused(three: Town) -> None:
    ended = three.change(add="n4")
    three.until(lambda: ended)
    assert isinstance(ended[0], ChangeRefused) and "n4 does not answer" in ended[0].reason
    assert three.lead().learners == []
    three.together(*THREE)


def test_a_change_that_would_lose_the_majority_is_refused(three: Town) -> None:
    leader = three.lead().config.node_id
    alive, dead = (name for name in THREE if name != leader)
    three.stop(dead)
    three.run(1.0)
    ended = three.change(remove=alive)
    three.until(lambda: ended)
    assert isinstance(ended[0], ChangeRefused) and f"{dead} not" in ended[0].reason
    three.together(leader, alive)


def test_the_last_member_is_not_removed(town: Town) -> None:
    town.start("n1")
    town.lead()
    with pytest.raises(ChangeRefused, match="last member"):
        town.change(remove="n1")


def test_a_cluster_of_one_grows_to_three(town: Town) -> None:
    town.start("n1")
    for number in range(30):
        town.write(b"%d" % number)
    for newcomer in ("n2", "n3"):
        joined(town, newcomer, ("n1",))
        town.changed(add=newcomer)
    town.together(*THREE)


def test_a_large_base_travels_in_pieces(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft.fetch.CHUNK_BYTES", 100)
    town.start(*THREE)
    for number in range(30):
        town.write(b"%d" % number)
    sleeper = next(name for name in THREE if name != town.lead().config.node_id)
    town.stop(sleeper)
    joined(town, "n4")
    town.changed(add="n4")
    town.loss = 0.1
    town.start(sleeper)
    town.together(*THREE, "n4")


def test_a_newcomer_gets_a_snapshot_when_the_log_is_cut(tmp_path: Path, clock: Clock) -> None:
    town = Town(tmp_path, clock, snapshot_every_entries=10, retained_entries=2)
    town.start(*THREE)
    for number in range(30):
        town.write(b"%d" % number)
    joined(town, "n4")
    town.changed(add="n4")
    for number in range(30, 60):
        town.write(b"%d" % number)
    town.together(*THREE, "n4")
    town.close()


def test_calls_in_flight_during_a_change_are_made_again_and_nobody_hears_of_it(three: Town) -> None:
    joined(three, "n4")
    ended, number = three.change(add="n4"), 0
    outcomes: list[Outcome] = []
    while not ended:
        three.lead().propose(b"during %d" % number, outcomes.append)
        number += 1
        three.run(0.005)
    three.until(lambda: len(outcomes) == number)
    assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
    three.together(*THREE, "n4")
    applied = [command for command in three.machines["n4"].commands if command.startswith(b"during")]
    assert sorted(applied) == sorted(b"during %d" % one for one in range(number))


def test_a_stranger_that_claims_a_newer_generation_is_not_believed(three: Town) -> None:
    target = next(name for name in THREE if name != three.lead().config.node_id)
    for sender in ("n9", "n4"):
        frame = Append("cluster", 7, sender, 1, 9, 1, 5, 1, 5, [])
        three.nodes[target].receive(encode(frame), "")
    three.run(1.0)
    assert three.nodes[target].generation.number == 1
    assert not list(three.configs[target].data_dir.glob("fetched*"))
    three.together(*THREE)


def test_files_of_older_generations_go_once_the_new_one_has_begun(three: Town) -> None:
    for newcomer in ("n4", "n5"):
        joined(three, newcomer)
        three.changed(add=newcomer)
    three.together(*THREE, "n4", "n5")
    for name in (*THREE, "n4"):
        names = {path.name for path in three.configs[name].data_dir.iterdir()}
        assert names == {"generation-0000000003"}


@pytest.mark.parametrize("verb", range(1, 25))
@pytest.mark.parametrize("who", ["leader", "follower", "newcomer"])
def test_power_lost_at_any_verb_of_a_change_loses_nothing(
    tmp_path: Path, clock: Clock, who: str, verb: int
) -> None:
    town = Town(tmp_path, clock)
    town.start(*THREE)
    town.write(b"before")
    leader = town.lead().config.node_id
    joined(town, "n4")
    follower = next(name for name in THREE if name != leader)
    victim = {"leader": leader, "follower": follower, "newcomer": "n4"}[who]
    town.change(add="n4", timeout=1.0)
    town.until(lambda: town.nodes["n4"].learners)
    town.disks[victim].fuse = verb
    town.run(1.5)
    died = victim not in town.nodes
    if died:
        town.start(victim)
    town.disks[victim].fuse = None
    while town.lead().generation.number < 2:
        with suppress(ChangeRefused, NotLeader):
            town.change(add="n4")
        town.run(0.5)
    town.together(*THREE, "n4")
    town.close()


# -- while the base is written ---------------------------------


@pytest.fixture
def slow(tmp_path: Path, clock: Clock) -> Iterator[Town]:
    """Three nodes that take 0.25 s for a base."""
    town = Town(tmp_path, clock, thread=50)
    town.start(*THREE)
    for number in range(5):
        town.write(b"before %d" % number)
    joined(town, "n4")
    yield town
    town.close()


def between(town: Town, name: str) -> bool:
    """Whether a node has applied the seal, and its base is not written yet."""
    node = town.nodes.get(name)
    return node is not None and node.generation.number == 1 and node.engine.sealed is not None


def test_who_writes_a_base_goes_on_meanwhile_and_every_call_is_answered_after_it(slow: Town) -> None:
    leader = slow.lead().config.node_id
    ended, outcomes, waited = slow.change(add="n4"), list[Outcome](), 0
    calls = 0
    while not ended:
        for name in THREE:
            slow.nodes[name].propose(b"during %d" % calls, outcomes.append)
            calls += 1
        slow.run(0.005)
        waited += between(slow, leader)
        assert slow.nodes[leader].failure is None
    assert waited >= 20, "turns in which the leader took its part though its base was not written"
    slow.until(lambda: len(outcomes) == calls)
    assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
    slow.together(*THREE, "n4")
    during = [command for command in slow.machines["n4"].commands if command.startswith(b"during")]
    assert sorted(during) == sorted(b"during %d" % one for one in range(calls))


def test_a_change_that_is_wanted_while_a_base_is_written_is_refused(slow: Town) -> None:
    """The members are those of the next generation: of the old one's nothing is true any more."""
    leader = slow.lead().config.node_id
    gone = next(name for name in THREE if name != leader)
    slow.change(add="n4", remove=gone)
    slow.until(lambda: between(slow, leader))
    slow.nodes[leader]._change = None  # as at a leader that did not begin the change
    for add, remove in ((gone, None), (None, "n4"), ("n5", None)):
        with pytest.raises(ChangeRefused, match="another change"):
            slow.nodes[leader].change(add, remove, 5.0, lambda result: None)
    slow.until(lambda: slow.lead().generation.number == 2)
    with pytest.raises(ChangeRefused, match="was removed"):
        slow.change(add=gone)


def test_a_switch_restores_nothing_and_a_restart_finds_the_base(slow: Town) -> None:
    slow.changed(add="n4")
    slow.together(*THREE, "n4")
    assert [slow.machines[name].restored for name in THREE] == [0, 0, 0]
    slow.stop(*THREE, "n4")
    slow.start(*THREE, "n4")
    assert [slow.machines[name].restored for name in THREE] == [1, 1, 1]
    slow.together(*THREE, "n4")


def test_a_follower_that_has_not_heard_of_the_seal_learns_it_from_a_leader_that_waits(slow: Town) -> None:
    """It is cut off when the seal is applied, and comes back while the others write."""
    leader = slow.lead().config.node_id
    late = next(name for name in THREE if name != leader)
    slow.change(add="n4")
    slow.until(lambda: slow.nodes["n4"].learners)
    slow.cut = {late}
    slow.until(lambda: between(slow, leader))
    slow.cut = set()
    slow.until(lambda: between(slow, late))
    assert between(slow, leader), "the others have not switched yet"
    slow.together(*THREE, "n4")


@pytest.mark.parametrize("turns", [0, 1, 10, 24, 30, 50])
@pytest.mark.parametrize("who", ["leader", "follower", "all"])
def test_power_lost_while_a_base_is_written_loses_nothing(slow: Town, who: str, turns: int) -> None:
    leader = slow.lead().config.node_id
    follower = next(name for name in THREE if name != leader)
    slow.change(add="n4")
    slow.until(lambda: between(slow, leader))
    slow.run(turns * 0.005)
    victims = {"leader": [leader], "follower": [follower], "all": [*THREE, "n4"]}[who]
    for victim in victims:
        slow.lose_power(victim)
    slow.start(*victims)
    slow.until(lambda: slow.lead().generation.number == 2)
    slow.together(*THREE, "n4")


@pytest.mark.parametrize("verb", range(1, 9))
def test_power_lost_at_any_verb_of_the_thread_loses_nothing(slow: Town, verb: int) -> None:
    leader = slow.lead().config.node_id
    slow.change(add="n4")
    slow.until(lambda: between(slow, leader))
    for work in slow.threads[leader].works:
        work.turns = 0
    slow.disks[leader].fuse = verb
    slow.run(0.1)
    slow.disks[leader].fuse = None
    if leader not in slow.nodes:
        slow.start(leader)
    slow.until(lambda: slow.lead().generation.number == 2)
    slow.together(*THREE, "n4")


def sealed_at(town: Town, name: str) -> bool:
    return name in town.nodes and town.nodes[name].engine.sealed is not None


@pytest.mark.parametrize("old", [("n1", "n2"), THREE])
def test_who_is_removed_stays_until_somebody_has_a_base(
    tmp_path: Path, clock: Clock, old: tuple[str, ...]
) -> None:
    """The leader dies before its base is written: without the removed node's vote nobody finds the seal
    again. Of three, one is dead all the time.
    """
    town = Town(tmp_path, clock, thread=50)
    town.start(*old)
    town.write(b"before")
    leader = town.lead().config.node_id
    gone, *dead = (name for name in old if name != leader)
    town.stop(*dead)
    add = "n4" if dead else None
    if add:
        joined(town, add, old)
    town.change(add=add, remove=gone)
    town.until(lambda: sealed_at(town, leader) and sealed_at(town, gone))
    assert town.nodes[gone].failure is None and between(town, leader)
    town.lose_power(leader)
    town.run(1.0)
    town.start(leader)
    members = tuple(sorted({*old, *([add] if add else [])} - {gone}))
    town.until(lambda: town.lead().generation == Generation(2, members, (gone,)))
    town.until(lambda: town.nodes[gone].failure)
    assert town.nodes[gone].failure == "this node was removed from the cluster in generation 2"
    town.start(*dead)
    town.together(*members)
    town.close()


def test_a_removed_node_that_waits_for_a_base_serves_nobody(slow: Town) -> None:
    leader = slow.lead().config.node_id
    gone = next(name for name in THREE if name != leader)
    slow.change(remove=gone)
    slow.until(lambda: sealed_at(slow, gone))
    heard: list[Outcome] = []
    slow.nodes[gone].propose(b"too late", heard.append)
    slow.until(lambda: heard)
    assert isinstance(heard[0], Unavailable) and "was removed" in heard[0].cause
    assert not slow.nodes[gone].leads_applied
    slow.until(lambda: slow.nodes[gone].failure)


def test_a_disk_that_is_full_when_the_base_is_written_makes_the_node_withdraw_and_the_others_go_on(
    slow: Town,
) -> None:
    leader = slow.lead().config.node_id
    slow.change(add="n4")
    slow.until(lambda: between(slow, leader))
    heard: list[Outcome] = []
    slow.nodes[leader].propose(b"held", heard.append)
    slow.disks[leader].full = True
    slow.until(lambda: slow.nodes[leader].failure)
    assert "No space left" in str(slow.nodes[leader].failure)
    slow.until(lambda: heard)
    assert isinstance(heard[0], Unavailable) and b"held" not in slow.machines[leader].commands
    slow.disks[leader].full = False
    slow.stop(leader)
    slow.start(leader)
    slow.together(*THREE, "n4")


def test_a_node_that_is_stopped_between_generations_tells_its_callers_and_leaves_no_name_behind(
    slow: Town,
) -> None:
    leader = slow.lead().config.node_id
    slow.change(add="n4")
    slow.until(lambda: between(slow, leader))
    node, works = slow.nodes[leader], slow.threads[leader].works
    heard: list[Outcome] = []
    node.propose(b"held", heard.append)
    assert not heard
    node.withdraw("the node was stopped")
    node.flush()
    node.close()
    assert isinstance(heard[0], Unavailable) and heard[0].cause == "the node was stopped"
    before = sorted(slow.configs[leader].data_dir.rglob("*"))
    for work in works:
        work.run()
    assert [work.error for work in works] == [None]
    assert sorted(slow.configs[leader].data_dir.rglob("*")) == before
    slow.stop(leader)
    slow.start(leader)
    slow.together(*THREE, "n4")


def test_what_waits_for_a_generation_is_bounded(slow: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft.again.MOST", 3)
    monkeypatch.setattr("raft.again.MOST_BYTES", 100)
    leader = slow.lead().config.node_id
    slow.change(add="n4")
    slow.until(lambda: between(slow, leader))
    outcomes: dict[bytes, list[Outcome]] = {}
    for word in (b"one", b"large" + bytes(100), b"two", b"three", b"four"):
        outcomes[word[:5]] = []
        slow.nodes[leader].propose(word, outcomes[word[:5]].append)
    slow.run(0.01)
    told = {word for word, heard in outcomes.items() if heard and isinstance(heard[0], Unavailable)}
    assert told == {b"large", b"four"}, "surely not applied, and told at once"
    slow.until(lambda: all(outcomes.values()))
    assert sum(isinstance(heard[0], Committed) for heard in outcomes.values()) == 3


@pytest.mark.parametrize("turns", [20, 80, 400])
def test_a_follower_that_stands_still_over_a_snapshot_deposes_nobody(
    tmp_path: Path, clock: Clock, turns: int
) -> None:
    """To read a large state takes its loop longer than its election timer runs: 0.1, 0.4 and 2 s."""
    town = Town(tmp_path, clock, snapshot_every_entries=10, retained_entries=2)
    town.start(*THREE)
    leader = town.lead()
    behind = next(name for name in THREE if name != leader.config.node_id)
    town.stop(behind)
    for number in range(40):
        town.write(b"%d" % number)
    term = leader.term
    town.start(behind)
    machine = town.machines[behind]
    restore = machine.restore

    def slowly(data: bytes) -> None:
        restore(data)
        town.asleep[behind] = turns

    machine.restore = slowly  # type: ignore[method-assign]
    town.until(lambda: town.asleep.get(behind))
    for number in range(100):
        town.write(b"meanwhile %d" % number)
    town.together(*THREE)
    assert town.lead() is leader and leader.term == term
    assert town.nodes[behind].counters.elections == 0
    assert town.nodes[behind].counters.snapshots_installed >= 1
    town.close()
