"""Pipelines that move while events come, on real processes: no event lost, none doubled, the order kept."""

import asyncio
import contextlib
import random
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cli.client import ClusterClient
from proto_schemas.codec import decode_fields, encode_fields
from tests.support.cluster import Cluster
from tests.support.poll import until
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport

pytestmark = pytest.mark.processes

PUBLISHERS: Final = 2
KEYS: Final = 8
WINDOW: Final = 10
ENDED: Final = ("done", "failed", "cancelled")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    with cluster.client() as rest:
        yield rest


def program(nats_url: str, name: str) -> str:
    """Each event comes out again; and of every ten of a key their sum."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Ins = Tick.from(Bus, topic: "test.{name}.in.>")
stream Each = Ins.emit(n: n, by: by, run: run).to(Bus, topic: "test.{name}.each")
stream Sums = Ins
    .partition_by(k).window({WINDOW}).aggregate(k: last(k), total: sum(n), last_n: last(n))
    .emit(k: k, total: total, last_n: last_n)
    .to(Bus, topic: "test.{name}.sums")
"""


class Load:
    """Publishers with connections of their own, each with numbers of its own; and what comes out."""

    def __init__(self, nats_url: str, name: str, *, count: int = 1_000_000, rate: float = 2_000) -> None:
        self.name, self.count, self.rate = name, count, rate
        self.complete = self.check_sums = True
        self.each: dict[int, list[int]] = {by: [] for by in range(PUBLISHERS)}
        self.sums: list[tuple[str, int, int]] = []
        self._sent = dict.fromkeys(range(PUBLISHERS), 0)
        self._run = uuid.uuid4().hex  # what an earlier load sent may still be on its way
        self._url = nats_url
        self._go_on = True

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Future[Any]"]:
        """Listen and publish; the future is done when all is sent. In the end all must come out."""
        config = NatsConfig(servers=(self._url,))
        ears = await NatsTransport.connect(config, wait=5)
        mouths = [await NatsTransport.connect(config, wait=5) for _ in range(PUBLISHERS)]
        try:
            await ears.subscribe(f"test.{self.name}.each", self._on_each)
            await ears.subscribe(f"test.{self.name}.sums", self._on_sum)
            await ears.flush()
            speaking = asyncio.gather(*(self._publish(mouth, by) for by, mouth in enumerate(mouths)))
            yield speaking
            self._go_on = False
            await speaking
            if self.complete:
                await self.all_came_out()
        finally:
            for bus in (ears, *mouths):
                await bus.close()

    @property
    def sent(self) -> int:
        return sum(self._sent.values())

    async def until_sent(self, count: int) -> None:
        await until(lambda: self.sent >= count, what=f"{count} sent")

    async def all_came_out(self) -> None:
        """Every number of every publisher, once, in the order it was sent; and the sums of a run without
        moves.
        """
        want = {by: list(range(count)) for by, count in self._sent.items()}
        sums = sorted(self._expected()) if self.check_sums else []
        with contextlib.suppress(AssertionError):
            await until(lambda: all(len(self.each[by]) >= len(want[by]) for by in want), timeout=5)
            await until(lambda: len(self.sums) >= len(sums), timeout=5)
        for by, numbers in want.items():
            got = self.each[by]
            missing, doubled = sorted(set(numbers) - set(got)), len(got) - len(set(got))
            assert not missing and not doubled, f"publisher {by}: {missing[:5]} missing, {doubled} doubled"
            assert got == numbers, f"publisher {by}: out of order"
        assert sorted(self.sums) == sums or not self.check_sums

    def _expected(self) -> Iterator[tuple[str, int, int]]:
        for by, count in self._sent.items():
            for key in range(KEYS):
                of_key = list(range(key, count, KEYS))
                for at in range(0, len(of_key) - WINDOW + 1, WINDOW):
                    window = of_key[at : at + WINDOW]
                    yield f"{by}-{key}", sum(window), window[-1]

    async def _publish(self, bus: NatsTransport, by: int) -> None:
        loop = asyncio.get_running_loop()
        begin, each = loop.time(), self.count // PUBLISHERS
        while self._sent[by] < each and self._go_on:
            due = min(int((loop.time() - begin) * self.rate / PUBLISHERS) + 1, each)
            for n in range(self._sent[by], due):
                fields = {"n": n, "by": by, "k": f"{by}-{n % KEYS}", "run": self._run}
                event = {"event_type": "Tick", "fields": fields}
                await bus.publish(f"test.{self.name}.in.{n % 2}", encode_fields(event))
                self._sent[by] += 1
            await asyncio.sleep(0.005)
        await bus.flush()

    async def _on_each(self, message: Message) -> None:
        fields = decode_fields(message.data)["fields"]
        if fields["run"] == self._run:
            self.each[fields["by"]].append(fields["n"])

    async def _on_sum(self, message: Message) -> None:
        fields = decode_fields(message.data)["fields"]
        self.sums.append((fields["k"], fields["total"], fields["last_n"]))


async def get(client: ClusterClient, path: str) -> Any:
    return await asyncio.to_thread(client.get, path)


async def deploy(client: ClusterClient, cluster: Cluster, name: str, *pipelines: str, worker: str) -> None:
    specs = [
        {"name": each, "source": program(cluster.nats_url, f"{name}-{each}"), "worker_affinity": worker}
        for each in pipelines
    ]
    made = await asyncio.to_thread(
        client.post, "/pipeline-groups", {"name": name, "pipelines": specs}, wait=20
    )
    assert made["status"] == "running", made


async def migrate(client: ClusterClient, group: str, pipeline: str, **body: Any) -> dict[str, Any]:
    """Start a migration and wait for its end."""
    started = await asyncio.to_thread(client.post, f"/pipelines/{group}/{pipeline}/migrate", body)
    return await ended(client, f"/migrations/{started['migration_id']}")


async def ended(client: ClusterClient, path: str, timeout: float = 15.0) -> dict[str, Any]:
    """A job once it has ended."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update(await get(client, path))
        return found["status"] in ENDED

    try:
        await until(over, timeout=timeout)
    except AssertionError:
        raise AssertionError(f"still under way: {found}") from None
    return found


async def placements(client: ClusterClient, group: str) -> dict[str, tuple[str, str]]:
    """(worker, status) by pipeline."""
    view = await get(client, f"/pipeline-groups/{group}")
    return {one["pipeline_name"]: (one["worker_id"], one["status"]) for one in view["placements"]}


async def test_twenty_thousand_events_and_six_moves(cluster: Cluster, client: ClusterClient) -> None:
    await deploy(client, cluster, "g", "p", worker="worker-0")
    load = Load(cluster.nats_url, "g-p", rate=5_000)
    async with load.running() as sending:
        for number in range(6):
            await load.until_sent(2_000 + 2_500 * number)
            move = await migrate(client, "g", "p")
            assert (move["status"], move["reason"]) == ("done", None), move
            assert move["to_worker"] == ("worker-1", "worker-0")[number % 2]
        await load.until_sent(20_000)
        assert not sending.done(), "every move happened under load"


async def test_a_drain_under_load_goes_on_when_its_leader_is_killed(
    cluster: Cluster, client: ClusterClient
) -> None:
    names = [f"p{number}" for number in range(6)]
    await deploy(client, cluster, "g", *names, worker="worker-0")
    async with Load(cluster.nats_url, "g-p0").running(), Load(cluster.nats_url, "g-p5").running():
        leader = await asyncio.to_thread(cluster.leader)
        await asyncio.to_thread(client.post, "/workers/worker-0/drain", {})
        await asyncio.to_thread(cluster.kill, leader)
        job = await ended(client, "/workers/worker-0/drain")
        assert (job["status"], job["left"], job["moved"]) == ("done", 0, 6), job
        assert await placements(client, "g") == dict.fromkeys(names, ("worker-1", "running"))
        worker = await get(client, "/workers/worker-0")
        assert worker["cordoned"] and not worker["assigned_pipelines"]


async def test_a_worker_that_is_told_to_stop_hands_over_and_loses_nothing(
    cluster: Cluster, client: ClusterClient
) -> None:
    await deploy(client, cluster, "g", "a", "b", worker="worker-0")
    async with Load(cluster.nats_url, "g-a").running(), Load(cluster.nats_url, "g-b").running() as sending:
        await asyncio.sleep(0)
        cluster.signal("worker-0", signal.SIGTERM)
        await until(lambda: cluster.pid("worker-0") not in cluster.alive(), what="it exits")
        assert not sending.done()

        async def elsewhere() -> bool:
            return await placements(client, "g") == dict.fromkeys("ab", ("worker-1", "running"))

        await until(elsewhere, timeout=5, what="the state tells what was handed over")
    listed = (await get(client, "/migrations"))["migrations"]
    assert [move["cause"] for move in listed] == ["leave", "leave"]


async def test_moves_drains_and_changes_of_leader_in_any_order_lose_nothing(
    cluster: Cluster, client: ClusterClient
) -> None:
    rng = random.Random(7)
    await deploy(client, cluster, "g", "a", "b", worker="worker-0")
    async with Load(cluster.nats_url, "g-a", rate=500).running(), Load(cluster.nats_url, "g-b").running():
        for _ in range(12):
            match rng.randrange(4):
                case 0:
                    await asyncio.to_thread(client.post, "/raft/transfer", {"to": None}, wait=5)
                case 1:
                    worker = f"/workers/worker-{rng.randrange(2)}"
                    await asyncio.to_thread(client.post, f"{worker}/drain", {})
                    assert (await ended(client, f"{worker}/drain"))["status"] == "done"
                    await asyncio.to_thread(client.post, f"{worker}/uncordon", {})
                case _:
                    move = await migrate(client, "g", rng.choice("ab"))
                    assert (move["status"], move["reason"]) == ("done", None), move


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_source_that_dies_in_the_middle_leaves_the_pipeline_running_elsewhere_and_a_reason(
    cluster: Cluster, client: ClusterClient, number: signal.Signals
) -> None:
    """Whether the move was completed without it or given up: the pipeline runs on, and nothing hangs."""
    await deploy(client, cluster, "g", "p", worker="worker-0")
    load = Load(cluster.nats_url, "g-p", rate=500)
    load.complete = False
    async with load.running():
        await load.until_sent(100)
        path = "/pipelines/g/p/migrate"
        started = await asyncio.to_thread(client.post, path, {"to": "worker-1"})
        cluster.signal("worker-0", number)
        move = await ended(client, f"/migrations/{started['migration_id']}")
        assert move["status"] in ENDED and (move["reason"] or move["status"] == "done"), move

        async def runs() -> bool:
            return (await placements(client, "g"))["p"] == ("worker-1", "running")

        await until(runs, timeout=15)
        known = sum(map(len, load.each.values()))
        await until(lambda: sum(map(len, load.each.values())) > known + 200, what="events come out again")
        if number is signal.SIGSTOP:
            cluster.signal("worker-0", signal.SIGCONT)
            begin = {by: len(numbers) for by, numbers in load.each.items()}
            await load.until_sent(load.sent + 500)
            for by, numbers in load.each.items():
                assert len(set(numbers[begin[by] :])) == len(numbers[begin[by] :]), "no second copy speaks"
