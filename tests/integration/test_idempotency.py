"""Every write of the API under one `Idempotency-Key`: through all nodes at once, again after the leader has
changed, and when the first answer was a refusal whose cause is gone since. The routes are those of the app:
a new one without a case here fails.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from litestar.routes import HTTPRoute

from proto_schemas.rest.base import API_BASE
from raft.node import RaftNode
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import NODES, PASS, Three, group, three

Step = Callable[[Three], Awaitable[Any]]
BUS = {"name": "Bus", "connector_type": "memory"}
REGISTRATION = {
    "worker_id": "w9",
    "address": "http://x:1",
    "api_key": "",
    "capacity": {"cpu_cores": 2, "pipelines_running": 0, "max_pipelines": 5},
}
BEAT = {"events_processed": 1, "pipelines_running": 0}
EVENT = {"event_type": "In", "fields": {"x": 1}}


def asks(method: str, path: str, body: Any = None) -> Step:
    async def ask(stage: Three) -> None:
        answer = await stage.ask(method, path, body)
        assert answer.status_code < 300, answer.text

    return ask


async def nothing(stage: Three) -> None:
    return None


async def joins(stage: Three) -> None:
    await stage.start("c3", join=True, members=NODES)


KEY_ID: Final = hashlib.blake2b(b"key:a-key", digest_size=6).hexdigest()


async def has_key(stage: Three) -> None:
    headers = {"idempotency-key": "a-key"}
    answer = await stage.ask("POST", "/keys", {"role": "viewer"}, headers=headers)
    assert answer.json()["id"] == KEY_ID, answer.text


async def moves_ended(stage: Three) -> None:
    async def none() -> bool:
        moves = (await stage.ask("GET", "/migrations")).json()["migrations"]
        return bool(moves) and all(move["ended_at"] is not None for move in moves)

    await until(none, timeout=20, what="the migrations have ended")


@dataclass(frozen=True)
class Case:
    """A write and how often it had an effect.

    Attributes:
        path, body: of the request; that of a restore is the copy that `before` made.
        effect: the decision in the trail that each effect leaves, with what it is about (empty: anything);
            or the command a worker carries out; empty: none that is replicated.
        before: what must be so first.
        undo: what makes a second effect possible after the first, and would give another answer.
        told_once: the first answer holds a secret, which is kept nowhere: later ones say so.
        changing: what its answer tells of the thing as it is now.
        undone: how often `undo` had the same effect.
        refused: what must be so for a refusal, which the first answer then is; `before` or `undo` ends it.
    """

    path: str
    body: Any = None
    effect: str = ""
    about: str = ""
    before: Step = nothing
    undo: Step = nothing
    changing: frozenset[str] = frozenset()
    refused: bool = True
    told_once: bool = False
    undone: int = 0


def only_on_w1() -> dict[str, Any]:
    """No other worker may take it, so a drain waits."""
    body = group()
    body["pipelines"][0]["constraints"] = [{"label": "name", "op": "=", "value": "w1"}]
    return body


async def saves_a_copy_and_loses_its_group(stage: Three) -> None:
    await GROUP(stage)
    stage.copy = (await stage.ask("GET", "/snapshot")).content
    await asks("DELETE", "/pipeline-groups/g")(stage)


async def registered_and_cordoned(stage: Three) -> None:
    await REGISTER(stage)
    await asks("POST", "/workers/w9/cordon")(stage)


async def being_drained(stage: Three) -> None:
    await GROUP_THAT_STAYS(stage)
    await asks("POST", "/workers/w1/drain")(stage)


def other_program() -> dict[str, Any]:
    body = group()
    body["pipelines"][0]["source"] += "\n"
    return body


async def has_two_versions(stage: Three) -> None:
    await GROUP(stage)
    await asks("PUT", "/pipeline-groups/g", other_program())(stage)


GROUP = asks("POST", "/pipeline-groups", group())
GROUP_THAT_STAYS = asks("POST", "/pipeline-groups", only_on_w1())
REGISTER = asks("POST", "/workers/register", REGISTRATION)
CASES: Final = {
    ("POST", "/workers/register"): Case(
        "/workers/register", REGISTRATION, "worker_registered", "w9", refused=False
    ),
    ("POST", "/workers/{worker_id}/heartbeat"): Case("/workers/w1/heartbeat", BEAT, refused=False),
    ("DELETE", "/workers/{worker_id}"): Case(
        "/workers/w9",
        effect="worker_removed",
        about="w9",
        before=REGISTER,
        undo=REGISTER,
    ),
    ("POST", "/pipeline-groups"): Case("/pipeline-groups", group(), "group_created", "g", refused=False),
    ("DELETE", "/pipeline-groups/{group_id}"): Case(
        "/pipeline-groups/g", effect="group_removed", about="g", before=GROUP
    ),
    ("PUT", "/pipeline-groups/{group_id}"): Case(
        "/pipeline-groups/g",
        other_program(),
        "group_update_started",
        "g",
        before=GROUP,
        undo=asks("PUT", "/pipeline-groups/g", group()),
        changing=frozenset({"placements", "sources", "update"}),
        undone=1,
    ),
    ("POST", "/pipeline-groups/{group_id}/rollback"): Case(
        "/pipeline-groups/g/rollback",
        {"why": "it was better"},
        "group_rollback_started",
        "g",
        before=has_two_versions,
        undo=asks("POST", "/pipeline-groups/g/rollback"),
        changing=frozenset({"placements", "sources", "update"}),
        undone=1,
    ),
    ("POST", "/pipeline-groups/{group_id}/scale"): Case(
        "/pipeline-groups/g/scale",
        {"pipeline": "p", "replicas": 2},
        "group_update_started",
        "g",
        before=GROUP,
        undo=asks("POST", "/pipeline-groups/g/scale", {"pipeline": "p", "replicas": 1}),
        changing=frozenset({"placements", "sources", "update"}),
        undone=1,
    ),
    ("POST", "/pipeline-groups/{group_id}/inject"): Case(
        "/pipeline-groups/g/inject", EVENT, "inject", before=GROUP, refused=False
    ),
    ("POST", "/pipeline-groups/{group_id}/inject-batch"): Case(
        "/pipeline-groups/g/inject-batch", {"events": [EVENT]}, "inject_batch", before=GROUP, refused=False
    ),
    ("POST", "/rebalance"): Case("/rebalance", refused=False),
    ("POST", "/keys"): Case("/keys", {"role": "viewer"}, "key_created", refused=False, told_once=True),
    ("POST", "/keys/{key_id}/rotate"): Case(
        f"/keys/{KEY_ID}/rotate",
        {"overlap_secs": 600},
        "key_created",
        before=has_key,
        refused=False,
        told_once=True,
    ),
    ("DELETE", "/keys/{key_id}"): Case(f"/keys/{KEY_ID}", effect="key_revoked", about=KEY_ID, before=has_key),
    ("POST", "/pipelines/{group_id}/{pipeline}/migrate"): Case(
        "/pipelines/g/p/migrate", effect="migration_started", about="g/p", before=GROUP, undo=moves_ended
    ),
    ("POST", "/workers/{worker_id}/cordon"): Case(
        "/workers/w9/cordon",
        effect="worker_cordoned",
        about="w9",
        before=REGISTER,
        undo=asks("POST", "/workers/w9/uncordon"),
    ),
    ("POST", "/workers/{worker_id}/uncordon"): Case(
        "/workers/w9/uncordon",
        effect="worker_uncordoned",
        about="w9",
        before=registered_and_cordoned,
        undo=asks("POST", "/workers/w9/cordon"),
    ),
    ("POST", "/workers/{worker_id}/drain"): Case(
        "/workers/w1/drain",
        {"timeout_secs": 600},
        "drain_started",
        "w1",
        before=GROUP_THAT_STAYS,
        undo=asks("DELETE", "/workers/w1/drain"),
        changing=frozenset({"status", "reason", "ended_at"}),
        refused=False,
    ),
    ("DELETE", "/workers/{worker_id}/drain"): Case(
        "/workers/w1/drain",
        effect="drain_cancelled",
        about="w1",
        before=being_drained,
        undo=asks("POST", "/workers/w1/drain"),
    ),
    ("POST", "/validate"): Case("/validate", {"source": PASS}, refused=False),
    ("POST", "/snapshot"): Case(
        "/snapshot?confirm=test",
        effect="state_restored",
        before=saves_a_copy_and_loses_its_group,
        undo=asks("DELETE", "/pipeline-groups/g"),
        refused=False,
    ),
    ("POST", "/raft/transfer"): Case("/raft/transfer", {"to": None}, refused=False),
    ("POST", "/raft/members"): Case("/raft/members?wait=20", {"id": "c3"}, before=joins, refused=False),
    ("DELETE", "/raft/members/{member_id}"): Case("/raft/members/c9", refused=False),
    ("POST", "/connectors"): Case(
        "/connectors",
        BUS,
        "connector_created",
        "Bus",
        undo=asks("PUT", "/connectors/Bus", {**BUS, "description": ""}),
        refused=False,
    ),
    ("PUT", "/connectors/{name}"): Case(
        "/connectors/Bus",
        {**BUS, "description": "d"},
        "connector_changed",
        "Bus",
        before=asks("POST", "/connectors", BUS),
    ),
    ("DELETE", "/connectors/{name}"): Case(
        "/connectors/Bus",
        effect="connector_deleted",
        about="Bus",
        before=asks("POST", "/connectors", BUS),
    ),
}
CHANGING: Final = frozenset({"term", "lease_secs", "processing_time_us", "version", "updated_at"})
"""What an answer tells of the moment, or of the thing as it is now."""


async def send(
    stage: Three, write: tuple[str, str], node: Any = None, key: str = "the-key"
) -> httpx.Response:
    case = CASES[write]
    headers = {"idempotency-key": key}
    content = {"content": stage.copy} if write == ("POST", "/snapshot") else {}
    return await stage.ask(write[0], case.path, case.body, node=node, headers=headers, **content)


def told(answer: httpx.Response, case: Case | None = None) -> tuple[int, dict[str, Any]]:
    body: dict[str, Any] = answer.json()
    changing = CHANGING | (case.changing if case is not None else set())
    return answer.status_code, {name: value for name, value in body.items() if name not in changing}


async def effects(stage: Three, worker: FakeWorker, case: Case) -> int:
    if case.effect.startswith("inject"):
        return sum(command == case.effect for command, _ in worker.done)
    page = (await stage.ask("GET", "/events", params={"limit": 1000})).json()["events"]
    return sum(event["what"] == case.effect and case.about in {"", event["about"]} for event in page)


async def another_leader(stage: Three) -> None:
    """One that is not busy with this case; on a busy machine the one before may win the next election."""
    before = stage.leader

    async def elsewhere() -> bool:
        if stage.leader is before:
            answer = await stage.ask("POST", "/raft/transfer", {"to": stage.follower.config.node_id})
            assert answer.status_code == 200, answer.text
            await stage.has_leader()
        return stage.leader is not before

    await until(elsewhere, timeout=15, what="another leader than before")


async def test_every_write_of_the_app_has_a_case(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        writes = {
            (method, route.path_format.removeprefix(API_BASE))
            for route in stage.layers()[-1].routes
            if isinstance(route, HTTPRoute) and route.path.startswith(API_BASE)
            for handler in route.route_handlers
            for method in handler.http_methods - {"GET", "HEAD", "OPTIONS"}
        }
        assert writes == CASES.keys(), "a write needs a case: it is to be done once under one key"


@pytest.mark.parametrize("write", CASES, ids=" ".join)
async def test_a_write_is_done_once_and_the_first_answer_comes_again_from_every_node(
    write: tuple[str, str], nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, transfer, transfers = CASES[write], RaftNode.transfer, []

    async def counted(self: RaftNode, to: str | None = None, *, timeout: float) -> str:
        transfers.append(to)
        return await transfer(self, to, timeout=timeout)

    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url, labels={"name": "w1"}) as worker,
        FakeWorker("w2", nats_server.url),
    ):
        await case.before(stage)
        before = await effects(stage, worker, case)
        nodes = [stage.nodes[name] for name in NODES]
        at_once = await asyncio.gather(*(send(stage, write, node) for node in nodes))
        if case.told_once:
            at_once.sort(key=lambda answer: answer.status_code)
            assert at_once.pop(0).status_code == 201
            assert {answer.status_code for answer in at_once} == {409}
            at_once.append(at_once[0])
        first = told(at_once[0], case)
        assert [told(answer, case) for answer in at_once] == [first] * 3, "side by side"
        await another_leader(stage)
        await case.undo(stage)
        monkeypatch.setattr(RaftNode, "transfer", counted)
        for node in nodes:
            assert told(await send(stage, write, node), case) == first, (
                "again, through each, after the change"
            )
        assert not transfers, "and leadership was not given away because of it"
        if case.effect:
            assert await effects(stage, worker, case) == before + 1 + case.undone


@pytest.mark.parametrize("write", [write for write, case in CASES.items() if case.refused], ids=" ".join)
async def test_a_refusal_comes_again_although_its_cause_is_gone(
    write: tuple[str, str], nats_server: NatsServer, tmp_path: Path
) -> None:
    case = CASES[write]
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url, labels={"name": "w1"}) as worker,
        FakeWorker("w2", nats_server.url),
    ):
        first = await send(stage, write, stage.follower)
        assert first.status_code == 404, first.text
        await another_leader(stage)
        await case.before(stage)
        for node in stage.nodes.values():
            assert told(await send(stage, write, node)) == told(first)
        assert await effects(stage, worker, case) == 0
        assert (await send(stage, write, key="another")).status_code in {200, 202}, "it would be possible now"


@pytest.mark.parametrize("write", [("POST", "/pipeline-groups"), ("POST", "/connectors")], ids=" ".join)
async def test_a_write_that_is_sent_through_all_nodes_while_leadership_moves_is_done_once(
    write: tuple[str, str], nats_server: NatsServer, tmp_path: Path
) -> None:
    case = CASES[write]
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        nodes = list(stage.nodes.values())
        moving = asyncio.create_task(another_leader(stage))
        answers: list[httpx.Response] = []
        while not moving.done() or len(answers) < 12:
            answers += await asyncio.gather(*(send(stage, write, node) for node in nodes))
        await moving
        assert {answer.status_code for answer in answers} == {201}
        assert all(answer.json()["name"] == answers[0].json()["name"] for answer in answers)
        assert await effects(stage, worker, case) == 1


async def test_a_key_belongs_to_one_request(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        assert (await send(stage, ("POST", "/connectors"))).status_code == 201
        for write in (("DELETE", "/connectors/{name}"), ("POST", "/raft/transfer")):
            spent = await send(stage, write)
            assert spent.status_code == 409 and "was used for another" in spent.json()["error"]


async def test_a_registration_is_answered_again_although_its_name_is_held_by_then(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """By itself; and nobody listens there who could prove that."""
    body, headers = {**REGISTRATION, "incarnation": "i1"}, {"idempotency-key": "k"}
    async with three(nats_server.url, tmp_path) as stage:
        first = await stage.ask("POST", "/workers/register", body, headers=headers)
        assert first.status_code == 201, first.text
        for node in stage.nodes.values():
            again = await stage.ask("POST", "/workers/register", body, headers=headers, node=node)
            assert told(again) == told(first)
        other = await stage.ask("POST", "/workers/register", body)
        assert other.status_code == 503 and "nobody proved to be it" in other.text


async def test_a_group_that_was_created_is_answered_again_although_it_would_be_refused_now(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Its program names a connector that is gone by then."""
    program = 'stream Out = In.from(Bus, topic: "t").emit(x: x)'
    body = {"name": "g", "pipelines": [{"name": "p", "source": program}]}
    headers = {"idempotency-key": "k"}
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        await stage.ask("POST", "/connectors", BUS)
        assert (await stage.ask("POST", "/pipeline-groups", body, headers=headers)).status_code == 201
        await stage.ask("DELETE", "/pipeline-groups/g")
        await stage.ask("DELETE", "/connectors/Bus")
        again = await stage.ask("POST", "/pipeline-groups", body, headers=headers)
        assert again.status_code == 409 and "new Idempotency-Key" in again.json()["error"]
        assert (await stage.ask("POST", "/pipeline-groups", body)).status_code == 422
