"""The harness itself: what it must find out, what it must let pass, and that its parts do what they say."""

import asyncio
import itertools
import sys
from pathlib import Path

import pytest

from cli.drills.link import Link
from tests.jepsen.broken_store import BrokenStore, Lie
from tests.jepsen.client import Client, Refused, Took, Unknown
from tests.jepsen.nemesis import Harm, plan
from tests.jepsen.report import gap
from tests.jepsen.workload import Notes, Settings, Workload
from tests.linearizability.checker import Verdict, check
from tests.support.faults import FAULTS, ON_COORDINATORS
from tests.support.linked import Cluster, Standing
from tests.support.node import Node
from tests.support.poll import until
from tests.support.ports import free_port
from tests.support.raft_watch import RaftWatch
from transport.http import HttpServer

SETTINGS = Settings(clients=6, keys=3, key_seconds=1.0, pause=0.002)
LIES = [lie for lie in Lie if lie is not Lie.NONE]


async def verdict_on(lie: Lie, writes: int, seed: int = 1) -> Verdict:
    """What the checker says of a store after so many acknowledged writes."""
    store, notes = BrokenStore(lie, seed), Notes()
    server = HttpServer(store)
    await server.start()
    try:
        async with Client() as client:
            workload = Workload(lambda: [server.url], client, notes, SETTINGS, seed)
            working = asyncio.create_task(workload.run())
            try:
                await until(lambda: len(notes.acknowledged) >= writes or working.done(), timeout=60)
            finally:
                workload.stop()
                await working
            assert not client.surprises
            assert lie is Lie.NONE or store.lies, "it never lied, so nothing is shown"
    finally:
        await server.stop()
    return check(notes.recorder.history(), deadline_seconds=30)


@pytest.mark.parametrize("lie", LIES, ids=[lie.name.lower() for lie in LIES])
async def test_a_store_that_lies_is_found_out_by_the_same_clients(lie: Lie) -> None:
    """Mostly by the first run; but where a machine is so busy that all requests overlap, much is allowed."""
    verdicts = []
    for seed in range(1, 9):
        verdicts.append(await verdict_on(lie, 250, seed))
        if verdicts[-1].ok is False:
            return
    pytest.fail(f"never found out: {verdicts}")


async def test_an_honest_store_passes() -> None:
    verdict = await verdict_on(Lie.NONE, writes=250)
    assert verdict.ok is True, verdict.explanation


async def test_a_coordinator_that_is_not_there_refuses_and_one_that_is_silent_leaves_it_unknown() -> None:
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: accepted.append(writer), "127.0.0.1", 0)
    async with silent, Client(deadline=0.2) as client:
        port = silent.sockets[0].getsockname()[1]
        assert isinstance(await client.write(f"http://127.0.0.1:{free_port()}", "k", "1"), Refused)
        assert isinstance(await client.write(f"http://127.0.0.1:{port}", "k", "1"), Unknown)
        for writer in accepted:
            writer.transport.abort()


async def test_an_unknown_write_stays_in_the_history_without_an_end_and_a_refused_one_does_not() -> None:
    notes = Notes(clock=itertools.count().__next__)
    for value, answer in (("1", Unknown("lost")), ("2", Refused("no")), ("3", Took())):
        notes.end(notes.recorder.invoke(0, "k", "write", value), "write", answer)
    assert [(one.value, one.returned is None) for one in notes.recorder.history()] == [
        ("1", True),
        ("3", False),
    ]
    assert len(notes.acknowledged) == 1


# -- the nemesis


def test_the_plan_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def first(seed: int) -> list[object]:
        return list(itertools.islice(plan(seed), 40))

    assert first(7) == first(7) != first(8)


def test_each_round_of_the_plan_has_every_fault_and_a_second_one_is_never_the_same() -> None:
    steps = list(itertools.islice(plan(3), 10 * len(FAULTS)))
    for begin in range(0, len(steps), len(FAULTS)):
        assert {step.faults[0] for step in steps[begin : begin + len(FAULTS)]} == set(FAULTS)
    doubles = [step.faults for step in steps if len(step.faults) == 2]
    assert doubles and all(first != second and second in ON_COORDINATORS for first, second in doubles)


@pytest.mark.parametrize(
    ("acknowledged", "longest"),
    [
        ([1.0, 2.0, 2.5, 7.0, 7.1, 20.0], 4.5),  # the gap touches the harm from inside
        ([0.0, 6.0, 6.5], 6.0),  # it began before the harm
        ([1.0, 2.0, 2.1], 2.9),  # no write since
        ([], 3.0),
    ],
)
def test_the_gap_is_the_longest_time_without_a_write_around_a_harm(
    acknowledged: list[float], longest: float
) -> None:
    harm = Harm("kill leader", "c0", began=2.0, healed=4.0, recovered=5.0)
    assert gap(harm, acknowledged) == pytest.approx(longest)


def test_the_watch_notices_two_leaders_of_a_term_and_steps_back() -> None:
    def said(*words: tuple[str, int, str | None, int, int]) -> list[str]:
        watch = RaftWatch(Cluster(Path("/nowhere")))
        for node, life, leader, term, applied in words:
            standing = Standing(this_node_id=node, leader_id=leader, term=term, applied_index=applied)
            watch.note(life, standing)
        return watch.complaints

    assert not said(("a", 1, "a", 1, 5), ("b", 1, "a", 1, 9), ("b", 1, "b", 2, 9), ("a", 2, "b", 2, 3))
    assert "two leaders" in said(("a", 1, "a", 1, 5), ("b", 1, "b", 1, 5))[0]
    assert "term" in said(("a", 1, None, 3, 5), ("a", 2, None, 2, 5))[0]
    assert "index" in said(("a", 1, None, 3, 5), ("a", 1, None, 3, 4))[0]


async def test_a_process_that_ends_by_itself_is_a_death_and_one_that_was_killed_is_none(
    tmp_path: Path,
) -> None:
    def node(name: str, program: str) -> Node:
        node = Node(name, tmp_path, Link(free_port()))
        node.command = [sys.executable, "-c", program]
        node.restart()
        return node

    dies = node("dies", "print('alas'); raise SystemExit(3)")
    killed = node("killed", "import time; time.sleep(60)")
    refuses = node("refuses", "print('coordinator x cannot start: no NATS'); raise SystemExit(1)")
    try:
        killed.kill()

        def revive() -> bool:
            for each in (dies, killed, refuses):
                each.revive()
            return bool(dies.deaths and refuses.deaths)

        await until(revive, what="deaths noticed")
        assert "3" in dies.deaths[0] and "alas" in dies.deaths[0]
        assert refuses.refused_starts > 1, "it was not started again"
        assert not killed.deaths
    finally:
        for each in (dies, killed, refuses):
            each.kill()
