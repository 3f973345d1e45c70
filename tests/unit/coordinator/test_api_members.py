"""Who leads and who is a member, over REST: what Raft is told, and how each of its refusals comes out."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpcore
import httpx
import pytest
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException

from coordinator.api import members, probes
from coordinator.api.context import Context
from coordinator.api.errors import on_defect, on_http_exception, on_wire_error
from coordinator.api.leader import to_leader
from proto_schemas.errors import WireError
from raft.errors import ApplyFailed, ChangeRefused, NotLeader, OutcomeUnknown, TransferRefused, Unavailable
from tests.unit.coordinator.leaders import Leader, Ledger

NOW = SimpleNamespace(number=3, members=("me", "new", "old"), retired=("gone",))
AS_JSON = {"number": 3, "members": ["me", "new", "old"], "retired": ["gone"]}


class FakeRaft:
    """Notes what it is asked for; `fails` is raised instead of an answer, after `then` was called."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None
        self.failure: str | None = None
        self.nodes = ["me", "new", "old"]
        self.ready = True

    def status(self) -> Any:
        nodes = [SimpleNamespace(id=name) for name in self.nodes]
        return SimpleNamespace(nodes=nodes, learners=[], failure=self.failure, applied_index=17)

    async def transfer(self, to: str | None = None, *, timeout: float) -> str:
        await self._ask("transfer", to, timeout)
        return to or "new"

    async def change_members(
        self, *, add: str | None = None, remove: str | None = None, timeout: float
    ) -> Any:
        await self._ask("change", add, remove, timeout)
        return NOW

    async def backup(self, *, timeout: float) -> bytes:
        await self._ask("backup", timeout)
        return b"\x00state\xff"

    async def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.fails is not None:
            raise self.fails


class Stage:
    """This node (`me`) with its fake Raft; `old` and `new` are servers that may lead."""

    def __init__(self) -> None:
        self.raft, self.ledger = FakeRaft(), Ledger()
        self.ledger.now = "me"
        self.old, self.new = Leader("old", awake=True), Leader("new", awake=True)
        self.config = SimpleNamespace(node_id="me", cluster_id="x", join=False)
        self.pool = httpcore.AsyncConnectionPool()
        parts: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Context))
        nats = SimpleNamespace(connected=True)
        parts |= {"config": self.config, "raft": self.raft, "ledger": self.ledger, "nats": nats}
        context = Context(**{**parts, "http": self.pool})

        def provide_context() -> Context:
            return context

        app = Litestar(
            [Router("/", route_handlers=members.HANDLERS, before_request=to_leader), *probes.HANDLERS],
            dependencies={"context": Provide(provide_context, sync_to_thread=False)},
            exception_handlers={
                WireError: on_wire_error,
                HTTPException: on_http_exception,
                Exception: on_defect,
            },
            openapi_config=None,
            logging_config=None,
        )
        app.state.context = context
        self.app: Any = app

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with (
            asyncio.timeout(10),
            httpx.AsyncClient(transport=transport, base_url="http://me") as client,
        ):
            return await client.request(method, path, **options)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.pool.aclose()


@pytest.fixture
async def others(stage: Stage) -> AsyncIterator[None]:
    """The other two can be reached."""
    servers = (stage.old.server, stage.new.server)
    try:
        for server in servers:
            await server.start()
        stage.ledger.state.coordinators = {"old": servers[0].url, "new": servers[1].url}
        yield
    finally:
        for server in servers:
            await server.stop(timeout=1.0)


ADD: dict[str, Any] = {"method": "POST", "path": "/raft/members", "json": {"id": "c4"}}
REMOVE: dict[str, Any] = {"method": "DELETE", "path": "/raft/members/old"}
TRANSFER: dict[str, Any] = {"method": "POST", "path": "/raft/transfer", "json": {"to": "new"}}
SNAPSHOT: dict[str, Any] = {"method": "GET", "path": "/snapshot"}


async def test_leadership_goes_where_it_was_asked_to_go(stage: Stage) -> None:
    answer = await stage.ask("POST", "/raft/transfer", json={"to": "old"}, params={"wait": 3})
    assert (answer.status_code, answer.json()) == (200, {"leader_id": "old"})
    answer = await stage.ask("POST", "/raft/transfer", json={"to": None})
    assert answer.json() == {"leader_id": "new"}
    assert [call[:2] for call in stage.raft.asked] == [("transfer", "old"), ("transfer", None)]
    assert 2.5 < stage.raft.asked[0][2] <= 3


async def test_members_are_added_replaced_and_removed_and_the_answer_is_the_generation(stage: Stage) -> None:
    added = await stage.ask(**ADD)
    replaced = await stage.ask("POST", "/raft/members", json={"id": "c5", "replaces": "old"})
    removed = await stage.ask(**REMOVE)
    for answer in (added, replaced, removed):
        assert (answer.status_code, answer.json()) == (200, AS_JSON)
    assert [call[1:3] for call in stage.raft.asked] == [("c4", None), ("c5", "old"), (None, "old")]


async def test_who_never_was_a_member_is_neither_removed_nor_replaced(stage: Stage) -> None:
    for gone in ("gone", "stranger"):
        removed = await stage.ask("DELETE", f"/raft/members/{gone}")
        replaced = await stage.ask("POST", "/raft/members", json={"id": "c5", "replaces": gone})
        expected = 200 if gone == "gone" else 404
        assert (removed.status_code, replaced.status_code) == (expected, expected)
    assert "never was a member" in replaced.json()["error"]
    assert stage.raft.asked[-1][1:3] == (None, "stranger"), "c5 was not added"


@pytest.mark.parametrize("request_", [ADD, REMOVE, TRANSFER, SNAPSHOT], ids=lambda one: one["path"])
@pytest.mark.parametrize(
    ("error", "status", "code", "text"),
    [
        (ChangeRefused("c4 has not caught up: lag 70"), 409, "conflict", "lag 70"),
        (TransferRefused("new", "it does not answer"), 409, "conflict", "does not answer"),
        (Unavailable("the log is sealed"), 503, "unavailable", "sealed"),
        (OutcomeUnknown("no answer within 1 s"), 504, "timeout", "may have been done"),
        (ApplyFailed("boom"), 500, "internal", "boom"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_refusal_of_raft_has_its_status_and_tells_the_reason(
    stage: Stage, request_: dict[str, Any], error: Exception, status: int, code: str, text: str
) -> None:
    stage.raft.fails = error
    answer = await stage.ask(**request_)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code and text in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("POST", "/raft/members", {"id": "a.b"}, "$.id"),
        ("POST", "/raft/members", {"id": ""}, "$.id"),
        ("POST", "/raft/members", {}, "id"),
        ("POST", "/raft/members", {"id": "c4", "replaces": "*"}, "$.replaces"),
        ("POST", "/raft/transfer", {"to": ">"}, "$.to"),
        ("POST", "/raft/transfer", {"to": 3}, "$.to"),
        ("DELETE", "/raft/members/a.b", None, "a.b"),
    ],
)
async def test_an_id_that_cannot_be_one_is_refused_before_raft_is_asked(
    stage: Stage, method: str, path: str, body: Any, text: str
) -> None:
    answer = await stage.ask(method, path, json=body)
    assert answer.status_code == 400 and text in answer.json()["error"]
    assert stage.raft.asked == []


@pytest.mark.usefixtures("others")
async def test_a_change_goes_after_the_leader_that_gave_leadership_away_for_it(stage: Stage) -> None:
    """The leader that is to be removed hands over first: the request is answered by its successor."""

    class Steps(FakeRaft):
        async def change_members(self, **what: Any) -> Any:
            stage.ledger.now = "new"
            self.asked.append(("change", what["remove"]))
            raise NotLeader("new")

    stage.raft.change_members = Steps.change_members.__get__(stage.raft)  # type: ignore[method-assign]
    answer = await stage.ask("DELETE", "/raft/members/me")
    assert (answer.status_code, answer.text) == (200, "new")
    assert stage.raft.asked == [("change", "me")] and len(stage.new.keys) == 1


@pytest.mark.usefixtures("others")
async def test_what_was_passed_on_is_sent_back_to_be_passed_on_again(stage: Stage) -> None:
    """A node passes a request on once; the first one looks for the new leader."""
    stage.raft.fails = NotLeader("new")
    stage.ledger.now = "new"
    answer = await stage.ask(**REMOVE, headers={"x-varpulis-forwarded": "c9"})
    assert answer.status_code == 503 and answer.json()["code"] == "not_leader"
    assert stage.new.keys == []


@pytest.mark.usefixtures("others")
async def test_a_follower_looks_again_when_the_leader_it_asked_has_given_leadership_away(
    stage: Stage,
) -> None:
    stage.ledger.now = "old"
    stage.old.status, stage.old.text = 503, '{"error": "gave it away", "code": "not_leader"}'
    stage.old.awake.clear()
    asking = asyncio.create_task(stage.ask(**REMOVE))
    async with asyncio.timeout(10):
        await stage.old.asked.wait()
    stage.ledger.now = "new"
    stage.old.awake.set()
    assert (await asking).text == "new"


@pytest.mark.usefixtures("others")
async def test_a_transfer_waits_for_its_answer_though_another_leads(stage: Stage) -> None:
    """Taken back and sent again, it would move leadership on from where it has just gone."""
    stage.ledger.now = "old"
    stage.old.awake.clear()
    asking = asyncio.create_task(stage.ask("POST", "/raft/transfer", json={}))
    async with asyncio.timeout(10):
        await stage.old.asked.wait()
    stage.ledger.now = "new"
    done, _ = await asyncio.wait({asking}, timeout=0.3)
    assert not done
    stage.old.awake.set()
    assert (await asking).text == "old"
    assert stage.new.keys == []


async def test_a_snapshot_comes_from_the_node_that_is_asked_leader_or_not(stage: Stage) -> None:
    stage.ledger.now = "old"
    answer = await stage.ask(**SNAPSHOT)
    assert (answer.status_code, answer.content) == (200, b"\x00state\xff")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="x-17.backup"'
    assert stage.old.keys == []


@pytest.mark.parametrize("request_", [ADD, REMOVE, TRANSFER, SNAPSHOT], ids=lambda one: one["path"])
async def test_a_removed_node_says_so_and_passes_nothing_on(stage: Stage, request_: dict[str, Any]) -> None:
    stage.raft.failure = "this node was removed from the cluster in generation 3"
    stage.ledger.now = "new"
    answer = await stage.ask(**request_)
    assert answer.status_code == 503 and "removed from the cluster in generation 3" in answer.text
    assert stage.new.keys == [] and stage.raft.asked == []
    assert (await stage.ask("GET", "/livez")).status_code == 200
    ready = await stage.ask("GET", "/readyz")
    assert ready.status_code == 503 and "generation 3" in ready.text


async def test_a_node_that_waits_to_be_added_says_with_which_words_until_it_is(stage: Stage) -> None:
    stage.config.join, stage.raft.nodes = True, ["old", "new"]
    for path in ("/readyz", "/snapshot"):
        answer = await stage.ask("GET", path)
        assert answer.status_code == 503 and "waits to be added: varpulis raft add me" in answer.text
    stage.raft.nodes = ["me", "new", "old"]
    assert (await stage.ask("GET", "/readyz")).status_code == 200
