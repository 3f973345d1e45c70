"""Pipelines with replicas, through real workers and coordinators: who handles what, by every way in."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from proto_schemas.partition import Owners
from proto_schemas.subjects import Subjects
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker, SeedWorker
from tests.unit.coordinator.three import Three, three
from tests.unit.worker.support import bare_client, collect, running
from worker.app import Worker

SUBJECTS = Subjects()
GROUPS = "/pipeline-groups"
KEYS = [*(f"c-{number}" for number in range(12)), *range(6), None, 2.5, True]
"""Customers of all kinds, a missing one among them."""


def program(url: str, topic: str | None = None, **params: Any) -> str:
    """Counts per customer, put out on `test.out` with the number of the event."""
    given = "".join(f", {name}: {json.dumps(value)}" for name, value in params.items())
    source = f'.from(Bus, topic: "{topic}"{given})' if topic else ""
    return f"""
connector Bus = nats(servers: "{url}")
stream Taken = Order{source}.where(n >= 0).emit(n: n, customer: customer).to(Bus, topic: "test.out")
"""


def orders(url: str, count: int, key: str | None, **more: Any) -> dict[str, Any]:
    pipeline = {"name": "orders", "source": program(url), "replicas": count, **more}
    return pipeline if key is None else {**pipeline, "partition_key": key}


def event(n: int, customer: Any) -> dict[str, Any]:
    fields = {"n": n} if customer is None else {"n": n, "customer": customer}
    return {"event_type": "Order", "fields": fields}


@asynccontextmanager
async def cluster(
    server: NatsServer, directory: Path, workers: int = 3
) -> AsyncIterator[tuple[Three, list[Worker]]]:
    async with (
        three(server.url, directory, rebalance=False) as stage,
        running(server, directory, worker_id="w-0") as first,
        running(server, directory, worker_id="w-1") as second,
        running(server, directory, worker_id="w-2") as third,
    ):
        all_workers = [first, second, third]

        async def joined() -> bool:
            answer = await stage.ask("GET", "/workers")
            return bool(answer.json()["total"] == workers)

        await until(joined, timeout=15, what="all workers")
        yield stage, all_workers


async def created(stage: Three, name: str, *pipelines: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await stage.ask("POST", GROUPS, {"name": name, "pipelines": list(pipelines), **more})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


def counted(workers: list[Worker], key: str, name: str = "orders") -> dict[str, int]:
    """A figure of each instance, by its name."""
    copies = [copy for worker in workers for copy in worker.host.pipelines if copy.name.startswith(name)]
    if key == "events_in":
        return {copy.name: copy.events_in for copy in copies}
    return {copy.name: copy.shares()[key] for copy in copies}


def shares(count: int) -> dict[str, int]:
    """How many of `KEYS` each instance owns."""
    owned = [Owners(count).of(key) for key in KEYS]
    return {f"orders-{number}": owned.count(number) for number in range(count)}


async def publish(client: Client, subject: str, *events: dict[str, Any]) -> None:
    for each in events:
        await client.publish(subject, json.dumps(each).encode())
    await client.flush()


async def test_instances_are_shown_and_each_stands_on_a_worker_of_its_own(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path) as (stage, _):
        view = await created(stage, "g", orders(nats_server.url, 3, "customer"))
    shown = {each["pipeline_name"]: each for each in view["placements"]}
    assert set(shown) == {"orders-0", "orders-1", "orders-2"}
    assert {each["worker_id"] for each in shown.values()} == {"w-0", "w-1", "w-2"}
    assert [shown[name]["instance"] for name in sorted(shown)] == [0, 1, 2]
    assert {each["instance_of"] for each in shown.values()} == {"orders"}
    assert view["pipeline_count"] == 1


async def test_what_an_outsider_publishes_is_kept_by_the_owner_of_its_key_and_by_nobody_else(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path) as (stage, workers), bare_client(nats_server) as client:
        out = await collect(client, "test.out")
        await created(stage, "g", orders(nats_server.url, 3, "customer"))
        subject = SUBJECTS.pipeline("g", "_external", "orders")
        await publish(client, subject, *(event(n, key) for n, key in enumerate(KEYS)))
        await until(lambda: len(out.messages) == len(KEYS), what="one output for each event")
        assert counted(workers, "events_in") == shares(3)
        await until(
            lambda: sum(counted(workers, "others").values()) == 2 * len(KEYS), what="the others saw them"
        )
        assert sum(counted(workers, "without_key").values()) == 1
        assert sum(sum(worker.host.losses().values()) for worker in workers) == 0
    assert sorted(each["n"] for each in out.fields) == list(range(len(KEYS)))


async def test_every_way_in_leads_a_key_to_the_same_instance(nats_server: NatsServer, tmp_path: Path) -> None:
    """A route from another pipeline, REST, a batch, and a connector, beside an outside publisher."""
    async with cluster(nats_server, tmp_path) as (stage, workers), bare_client(nats_server) as client:
        out = await collect(client, "test.out")
        url = nats_server.url
        front = {"name": "front", "source": "stream Order = Raw.emit(n: n, customer: customer)"}
        keyed = orders(url, 3, "customer")
        keyed["source"] = program(url, "test.in")
        routes = [
            {"from_pipeline": "front", "to_pipeline": "orders", "event_types": ["Ord*"]},
            {"from_pipeline": "_external", "to_pipeline": "orders", "event_types": ["Order"]},
            {"from_pipeline": "_external", "to_pipeline": "front", "event_types": ["Raw"]},
        ]
        await created(stage, "g", front, keyed, routes=routes)
        events = [event(n, key) for n, key in enumerate(KEYS)]
        raw = [{**each, "event_type": "Raw"} for each in events]
        ways = 0

        async def all_came(what: str) -> None:
            nonlocal ways
            ways += 1
            await until(lambda: len(out.messages) == ways * len(KEYS), what=what)
            expected = {name: ways * count for name, count in shares(3).items()}
            assert counted(workers, "events_in") == expected, what

        await publish(client, SUBJECTS.pipeline("g", "_external", "orders"), *events)
        await all_came("from an outsider")
        await publish(client, "test.in", *events)
        await all_came("through the connector")
        others = sum(counted(workers, "others").values())
        await publish(client, SUBJECTS.pipeline("g", "_external", "front"), *raw)
        await all_came("over the route")
        for each in events:
            answer = await stage.ask("POST", f"{GROUPS}/g/inject", each)
            assert answer.status_code == 200, answer.text
            owner = Owners(3).of(each["fields"].get("customer"))
            assert answer.json()["routed_to"] == f"orders-{owner}"
        await all_came("injected")
        answer = await stage.ask("POST", f"{GROUPS}/g/inject-batch", {"events": events})
        assert answer.json()["events_sent"] == len(KEYS)
        await all_came("in a batch")
        flat = [{"event_type": "Order", **each["fields"]} for each in events]
        answer = await stage.ask("POST", f"{GROUPS}/g/inject-batch", {"events": flat})
        await all_came("in a batch, flat")
        assert sum(counted(workers, "others").values()) == others, (
            "senders who know the owner tell nobody else"
        )
        assert sum(counted(workers, "without_key").values()) == ways


async def test_without_a_key_each_event_goes_to_one_instance_by_every_way_in(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path) as (stage, workers), bare_client(nats_server) as client:
        out = await collect(client, "test.out")
        shared = orders(nats_server.url, 3, None)
        shared["source"] = program(nats_server.url, "test.in")
        await created(stage, "g", shared)
        events = [event(n, f"c-{n}") for n in range(300)]
        await publish(client, SUBJECTS.pipeline("g", "_external", "orders"), *events)
        await until(lambda: len(out.messages) == 300, what="over the group's subject")
        assert min(counted(workers, "events_in").values()) > 30
        await publish(client, "test.in", *events)
        await until(lambda: len(out.messages) == 600, what="through the connector")
        answer = await stage.ask("POST", f"{GROUPS}/g/inject-batch", {"events": events})
        assert answer.json()["events_sent"] == 300
        await until(lambda: len(out.messages) == 900, what="in a batch")
        assert min(counted(workers, "events_in").values()) > 130
        for _ in range(6):
            await stage.ask("POST", f"{GROUPS}/g/inject", event(0, None))
        await until(lambda: len(out.messages) == 906, what="injected")
        assert sum(counted(workers, "events_in").values()) == 906, "nothing was handled twice"


async def test_an_inject_that_comes_again_goes_to_the_same_instance_and_counts_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path) as (stage, workers):
        await created(stage, "g", orders(nats_server.url, 3, None))
        body, key = event(1, None), {"idempotency-key": "order-1"}
        first = await stage.ask("POST", f"{GROUPS}/g/inject", body, headers=key)
        for _ in range(4):
            again = await stage.ask("POST", f"{GROUPS}/g/inject", body, headers=key)
            assert again.json() == first.json()
        assert sum(counted(workers, "events_in").values()) == 1


async def test_from_outside_over_nats_only_what_a_route_leads_here_is_taken(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path) as (stage, workers), bare_client(nats_server) as client:
        out = await collect(client, "test.out")
        alike = {"name": "alike", "source": program(nats_server.url)}
        unnamed = {"name": "unnamed", "source": program(nats_server.url)}
        routes = [{"from_pipeline": "_external", "to_pipeline": "alike", "event_types": ["Orders*"]}]
        await created(stage, "g", alike, unnamed, routes=routes)
        for name in ("alike", "unnamed"):
            await publish(client, SUBJECTS.pipeline("g", "_external", name), event(1, "x"))
        refused = {"no_route": 2}

        def both_refused() -> bool:
            found = sum((worker.host.losses() for worker in workers[1:]), workers[0].host.losses())
            return dict(+found) == refused

        await until(both_refused, what="both are refused")
        answer = await stage.ask("POST", f"{GROUPS}/g/inject", event(1, "x"))
        assert (answer.status_code, answer.json()["code"]) == (404, "no_route"), "and so it is through REST"
    assert out.messages == []


async def test_a_replica_is_never_placed_on_a_worker_that_knows_none(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, SeedWorker("seed", nats_server.url) as seed:
        spec = {"name": "g", "pipelines": [orders(nats_server.url, 2, "customer")]}
        answer = await stage.ask("POST", GROUPS, spec)
        assert answer.status_code == 503
        assert "1 know no replicas" in answer.json()["error"]
        assert seed.told("deploy") == []


async def test_a_user_s_queue_group_and_a_partition_key_contradict_each_other(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        keyed = orders(nats_server.url, 2, "customer")
        keyed["source"] = program(nats_server.url, "test.in", queue_group="cell")
        answer = await stage.ask("POST", GROUPS, {"name": "g", "pipelines": [keyed]})
        assert answer.status_code == 400
        assert "$.pipelines[0].partition_key" in answer.json()["error"]
        bus = {"name": "Shared", "connector_type": "nats", "params": {"servers": nats_server.url}}
        assert (await stage.ask("POST", "/connectors", bus)).status_code == 201
        keyed["source"] = 'stream Taken = Order.from(Shared, topic: "t").emit(n: n)'
        async with FakeWorker("w1", nats_server.url):
            made = await stage.ask("POST", GROUPS, {"name": "g", "pipelines": [keyed]})
            assert made.status_code == 201, made.text
            bus["params"] = {"servers": nats_server.url, "queue_group": "cell"}
            refused = await stage.ask("PUT", "/connectors/Shared", bus)
            assert refused.status_code == 400, refused.text
            said = refused.json()["error"]
            assert "queue_group: g/orders" in said and "partition_key" in said
            assert (await stage.ask("GET", "/connectors/Shared")).json()["version"] == 1
