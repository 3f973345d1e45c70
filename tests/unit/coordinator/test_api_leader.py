"""What a follower does with a request: passes it on, takes it back from a leader that froze, repeats it when
that is safe. The leaders here are small servers that answer, stay silent, or hang up when told."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpcore
import httpx
import pytest
from litestar import Litestar, get, post

from coordinator.api import leader as leader_module
from coordinator.api.context import AnyRequest, request_id
from coordinator.api.errors import on_defect, on_wire_error
from coordinator.api.leader import to_leader
from proto_schemas.errors import ErrorCode, WireError
from tests.support.poll import until
from tests.unit.coordinator.leaders import Leader, Ledger
from transport.http import HttpServer


@get("/read")
async def read() -> str:
    return "me"


@post("/write", status_code=200)
async def write(request: AnyRequest) -> str:
    return request_id(request)


@post("/once", status_code=200, opt={"repeatable": False})
async def once() -> str:
    return "me"


@post("/refuse", status_code=200)
async def refuse() -> str:
    raise WireError(ErrorCode.UNAVAILABLE, "no majority")


class Stage:
    """This node (`me`), the leader so far (`old`, frozen) and the one to come (`new`)."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.outside: str | None = None
        self.old, self.new = Leader("old", awake=False), Leader("new", awake=True)
        app = Litestar(
            [read, write, once, refuse],
            before_request=to_leader,
            exception_handlers={WireError: on_wire_error, Exception: on_defect},
            openapi_config=None,
            logging_config=None,
        )
        self.pool = httpcore.AsyncConnectionPool()
        app.state.context = SimpleNamespace(
            config=SimpleNamespace(node_id="me"),
            raft=SimpleNamespace(status=lambda: SimpleNamespace(nodes=["me", "old", "new"])),
            outside=lambda: self.outside,
            ledger=self.ledger,
            http=self.pool,
        )
        self.me = HttpServer(app)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with asyncio.timeout(10), httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.request(method, self.me.url + path, **options)

    async def ask_then(self, leads: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer to a request at which the old leader froze, before `leads` came to lead."""
        asking = asyncio.create_task(self.ask(method, path, **options))
        async with asyncio.timeout(10):
            await self.old.asked.wait()
        self.ledger.now = leads
        return await asking


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    servers = (stage.me, stage.old.server, stage.new.server)
    try:
        for server in servers:
            await server.start()
        stage.ledger.state.coordinators = {"old": stage.old.server.url, "new": stage.new.server.url}
        yield stage
    finally:
        stage.old.awake.set()
        await stage.pool.aclose()
        for server in servers:
            await server.stop(timeout=1.0)


async def test_a_read_is_taken_back_from_a_frozen_leader_once_another_is_known(stage: Stage) -> None:
    answer = await stage.ask_then("new", "GET", "/read")
    assert (answer.status_code, answer.text) == (200, "new")
    assert "x-secret" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "mine"}])
async def test_a_write_is_repeated_at_the_new_leader_under_the_same_key(
    stage: Stage, headers: dict[str, str]
) -> None:
    answer = await stage.ask_then("new", "POST", "/write", headers=headers)
    assert answer.text == "new"
    assert stage.old.keys == stage.new.keys and stage.new.keys[0] != ""
    assert not headers or stage.new.keys == ["mine"]


async def test_a_node_that_comes_to_lead_does_the_write_itself_under_the_key_it_sent_before(
    stage: Stage,
) -> None:
    answer = await stage.ask_then("me", "POST", "/write")
    assert answer.text == f"key:{stage.old.keys[0]}"


async def test_what_must_not_be_repeated_is_answered_with_timeout_and_perhaps(stage: Stage) -> None:
    answer = await stage.ask_then("new", "POST", "/once")
    assert answer.status_code == 504 and answer.json()["code"] == "timeout"
    assert "may have been carried out" in answer.json()["error"] and answer.json()["leader"] == "new"
    assert stage.old.keys == [""], "no key is made up for it"
    assert stage.new.keys == []


async def test_a_key_of_the_client_makes_it_repeatable(stage: Stage) -> None:
    answer = await stage.ask_then("new", "POST", "/once", headers={"idempotency-key": "mine"})
    assert answer.text == "new" and stage.new.keys == ["mine"]


async def test_while_no_other_leader_is_known_the_first_may_still_answer(stage: Stage) -> None:
    asking = asyncio.create_task(stage.ask("POST", "/once"))
    async with asyncio.timeout(10):
        await stage.old.asked.wait()
    stage.ledger.now = None
    enough = stage.ledger.looks + 3

    async def looked() -> bool:
        return stage.ledger.looks >= enough

    await until(looked, what="the node looked for another leader")
    stage.old.awake.set()
    assert (await asking).text == "old"


async def test_a_leader_that_hangs_up_is_asked_no_more_once_another_is_known(stage: Stage) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        stage.ledger.now = "new"
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        stage.ledger.state.coordinators["old"] = f"http://127.0.0.1:{port}"
        assert (await stage.ask("POST", "/write")).text == "new"
        stage.ledger.now = "old"
        assert (await stage.ask("POST", "/once")).status_code == 504


async def test_a_leader_that_is_not_there_is_unavailable_and_was_not_reached(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "PATIENCE", 0.1)
    await stage.old.server.stop(timeout=0)
    answer = await stage.ask("POST", "/once")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert stage.old.server.url in answer.json()["error"]


async def test_a_read_has_no_time_to_wait_for_a_deployment(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "DEADLINE", 0.1)
    for path in ("/read", "/read?wait=60"):
        answer = await stage.ask("GET", path)
        assert answer.status_code == 504 and answer.json()["code"] == "timeout"


@pytest.mark.parametrize("wait", ["nan", "-nan", "inf", "-inf", "-1", "1e999", "x", ""])
async def test_a_wait_that_makes_no_sense_is_the_leaders_to_refuse(stage: Stage, wait: str) -> None:
    stage.old.awake.set()
    answer = await stage.ask("POST", "/write", params={"wait": wait})
    assert answer.text == "old"


async def test_path_query_headers_and_body_arrive_as_they_were(stage: Stage) -> None:
    seen: list[tuple[bytes, bytes, bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await stage.old(scope, receive, send)
            return
        body = (await receive())["body"]
        headers = dict(scope["headers"])
        seen.append((scope["raw_path"], scope["query_string"], body, headers[b"x-mine"]))
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"a teapot"})

    server = HttpServer(app)
    await server.start()
    try:
        stage.ledger.state.coordinators["old"] = server.url
        answer = await stage.ask(
            "POST", "/write?a=%2F&b=ü", content=b"\xff\x00", headers={"x-mine": b"\xe9\xa0"}
        )
    finally:
        await server.stop(timeout=1.0)
    assert (answer.status_code, answer.text) == (418, "a teapot")
    assert seen == [(b"/write", b"a=%2F&b=%C3%BC", b"\xff\x00", b"\xe9\xa0")]


@pytest.mark.parametrize("leads", ["new", "me"])
async def test_a_refusal_does_not_hide_that_a_former_leader_may_have_carried_it_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, leads: str
) -> None:
    monkeypatch.setattr(leader_module, "PATIENCE", 0.2)
    stage.new.status, stage.new.text = 503, '{"error":"no majority","code":"unavailable"}'
    answer = await stage.ask_then(leads, "POST", "/refuse")
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert "may have been carried out" in answer.json()["error"]


async def test_a_refusal_of_what_was_sent_to_nobody_else_stays_one(stage: Stage) -> None:
    stage.ledger.now = "me"
    assert (await stage.ask("POST", "/refuse")).json()["code"] == "unavailable"


async def test_a_connection_that_ends_the_moment_it_stands_is_no_defect_and_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.ledger.now = "new"
    request, broken = stage.pool.request, [AttributeError("'NoneType' object has no attribute 'getpeername'")]

    async def once_broken(*arguments: Any, **options: Any) -> httpcore.Response:
        if broken:
            raise broken.pop()
        return await request(*arguments, **options)

    monkeypatch.setattr(stage.pool, "request", once_broken)
    answer = await stage.ask("POST", "/write")
    assert (answer.status_code, answer.text) == (200, "new") and not broken
