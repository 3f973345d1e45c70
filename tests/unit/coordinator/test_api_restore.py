"""`POST /snapshot`: what is asked before the state of a running cluster is replaced, and that it is done
once."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException

from coordinator.api import restore
from coordinator.api.context import Context
from coordinator.api.errors import on_defect, on_http_exception, on_wire_error
from coordinator.api.leader import to_leader
from coordinator.api.schema import document
from coordinator.ledger import Ledger, now_ms
from coordinator.machine import ClusterMachine
from coordinator.state.commands import (
    BeginRestore,
    Command,
    CommitRestore,
    PutPart,
    decode_command,
    encode_command,
)
from coordinator.state.restore import parts_of
from coordinator.state.snapshot import frames
from proto_schemas.errors import WireError
from raft.backup import pack
from raft.errors import OutcomeUnknown, Unavailable
from raft.generation import Generation
from tests.unit.coordinator.stage import Commit, SoloLog
from tests.unit.coordinator.worlds import World

MEANT = {"confirm": "x"}


class Log(SoloLog):
    """Notes the commands; `before` is called before each is applied."""

    def __init__(self, machine: ClusterMachine) -> None:
        super().__init__(machine)
        self.said: list[Command] = []
        self.before: Callable[[Command], None] = lambda command: None

    async def propose(self, command: bytes, *, timeout: float) -> Commit:
        decoded = decode_command(command)
        self.said.append(decoded)
        self.before(decoded)
        return await super().propose(command, timeout=timeout)


class Stage:
    """One coordinator of cluster `x`, whose log is Raft with one member."""

    def __init__(self) -> None:
        self.machine = ClusterMachine()
        self.log = Log(self.machine)
        self.failure: str | None = None
        status = SimpleNamespace(nodes=[], learners=[], failure=None)
        parts: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Context))
        parts |= {
            "config": SimpleNamespace(node_id="me", cluster_id="x", join=False),
            "ledger": Ledger(self.log, self.machine),
            "raft": SimpleNamespace(status=lambda: status),
        }
        self.status, context = status, Context(**parts)

        def provide_context() -> Context:
            return context

        app = Litestar(
            restore.HANDLERS,
            before_request=to_leader,
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

    async def post(self, content: Any, key: str = "k", **query: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with (
            asyncio.timeout(20),
            httpx.AsyncClient(transport=transport, base_url="http://me") as client,
        ):
            headers = {"idempotency-key": key}
            return await client.post("/snapshot", content=content, params=query, headers=headers)

    @property
    def groups(self) -> set[str]:
        return set(self.machine.state.groups)

    def said(self, kind: type[Command]) -> list[Any]:
        return [command for command in self.log.said if isinstance(command, kind)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    yield Stage()


def a_copy(*groups: str, cluster: str = "x", state: list[bytes] | None = None) -> bytes:
    world = World()
    world.worker("w1")
    for name in groups or ("a",):
        world.group(name, "p")
    return pack(
        Generation(1, ("c1",), ()),
        frames(world.state) if state is None else state,
        cluster=cluster,
        last_index=17,
        last_term=1,
        taken_at_ms=1_000,
    )


def large() -> bytes:
    """Of many parts."""
    world = World()
    world.worker("w1")
    for number in range(40):
        world.group(f"g{number}", "p" * 60)
        spec = world.state.groups[f"g{number}"].spec
        source = "x" * 60_000
        pipelines = [msgspec.structs.replace(spec.pipelines[0], source=source)]
        world.state.groups[f"g{number}"] = msgspec.structs.replace(
            world.state.groups[f"g{number}"], spec=msgspec.structs.replace(spec, pipelines=pipelines)
        )
    return a_copy(state=list(frames(world.state)))


async def test_a_copy_becomes_the_state_and_the_answer_says_which_it_was(stage: Stage) -> None:
    answer = await stage.post(a_copy("a", "b"), **MEANT)
    told = {"cluster_id": "x", "last_index": 17, "taken_at_ms": 1_000, "groups": 2, "pipelines": 2, "kept": 0}
    assert (answer.status_code, answer.json()) == (200, told)
    assert stage.groups == {"a", "b"}


async def test_the_same_request_again_gets_its_first_answer_and_sends_nothing(stage: Stage) -> None:
    copy = a_copy("a")
    first = await stage.post(copy, **MEANT)
    assert (await stage.post(a_copy("later"), key="another", **MEANT)).status_code == 200
    stage.log.said.clear()
    again = await stage.post(copy, **MEANT)
    assert again.json() == first.json() and stage.groups == {"later"}
    assert [type(command) for command in stage.log.said] == [CommitRestore]
    spent = await stage.post(a_copy("b"), **MEANT)
    assert (spent.status_code, spent.json()["code"]) == (409, "conflict") and stage.groups == {"later"}


@pytest.mark.parametrize("query", [{}, {"confirm": "y"}, {"from_cluster": "x"}])
async def test_a_restore_that_does_not_name_this_cluster_is_refused_and_says_what_is_right(
    stage: Stage, query: dict[str, str]
) -> None:
    answer = await stage.post(a_copy(), **query)
    assert answer.status_code == 400 and "?confirm=x" in answer.json()["error"]
    assert not stage.log.said


async def test_a_copy_of_another_cluster_has_to_be_meant(stage: Stage) -> None:
    copy = a_copy(cluster="other")
    for origin in ({}, {"from_cluster": "third"}):
        answer = await stage.post(copy, **MEANT, **origin)
        assert answer.status_code == 409 and "&from_cluster=other" in answer.json()["error"]
    assert not stage.log.said
    assert (await stage.post(copy, **MEANT, from_cluster="other")).json()["cluster_id"] == "other"


@pytest.mark.parametrize(
    ("copy", "text"),
    [
        (b"", "begins with"),
        (b"nothing of ours", "begins with"),
        (a_copy()[:-9], "should hold"),
        (a_copy()[:-9] + b"x" + a_copy()[-8:], "checksum"),
        (b"VARPBKP9" + a_copy()[8:], "format 9"),
        (a_copy(state=[b"CLUSTATE\x05\x00\x00\x00\x94\x09\x00\x00\x80"]), "format 9"),
        (a_copy(state=[b"of no machine"]), "begins with"),
    ],
)
async def test_a_copy_that_is_damaged_or_too_new_is_refused_before_anything_is_proposed(
    stage: Stage, copy: bytes, text: str
) -> None:
    answer = await stage.post(copy, **MEANT)
    assert answer.status_code == 400, answer.text
    assert text in answer.json()["error"] and "Nothing was changed" in answer.json()["error"]
    assert not stage.log.said


async def test_a_node_that_is_no_member_takes_none(stage: Stage) -> None:
    stage.status.failure = "it was removed"
    answer = await stage.post(a_copy(), **MEANT)
    assert (answer.status_code, answer.json()["error"]) == (503, "it was removed")


async def test_a_body_that_is_too_large_is_413_also_when_its_size_is_not_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "MAX_COPY", 10)
    assert (await stage.post(a_copy(), **MEANT)).status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(restore.MAX_BODY // 2**20 + 2):
            yield bytes(2**20)

    assert (await stage.post(endless(), **MEANT)).status_code == 413
    assert not stage.log.said


async def test_a_large_copy_goes_in_parts_a_few_at_once_and_a_lost_one_is_sent_again(
    stage: Stage,
) -> None:
    copy, most = large(), 0

    def before(command: Command) -> None:
        nonlocal most
        most = max(most, len(stage.said(PutPart)) - len(stage.machine.state.parts))
        if isinstance(command, PutPart) and command.number == 3 and len(stage.said(PutPart)) < 8:
            raise OutcomeUnknown("lost")

    stage.log.before = before
    answer = await stage.post(copy, **MEANT)
    assert answer.status_code == 200 and len(stage.groups) == 40, answer.text
    numbers = [part.number for part in stage.said(PutPart)]
    assert set(numbers) == set(range(parts_of(stage.said(BeginRestore)[0].size))) and len(set(numbers)) > 8
    assert numbers.count(3) > 1 and most <= restore.AT_ONCE + numbers.count(3)


async def test_what_was_cut_off_goes_on_where_it_stopped_under_the_same_key(
    stage: Stage,
) -> None:
    copy = large()

    def no_more(command: Command) -> None:
        if isinstance(command, PutPart) and command.number >= 5:
            raise Unavailable("no leader is known")

    stage.log.before = no_more
    cut = await stage.post(copy, wait=0.3, **MEANT)
    assert cut.status_code == 503 and "nothing was changed" in cut.json()["error"] and not stage.groups
    here = set(stage.machine.state.parts)
    assert {0, 1, 2, 3, 4} == here
    stage.log.before = lambda command: None
    stage.log.said.clear()
    assert (await stage.post(copy, **MEANT)).status_code == 200 and len(stage.groups) == 40
    assert not here & {part.number for part in stage.said(PutPart)}


async def test_who_is_displaced_by_a_newer_restore_is_told_and_does_not_displace_it_in_turn(
    stage: Stage,
) -> None:
    def displace(command: Command) -> None:
        if isinstance(command, PutPart) and command.number == 4:
            about: dict[str, Any] = {"cluster": "x", "taken_at": 1, "last_index": 1, "key": "o"}
            other = BeginRestore(by="t", at=now_ms(), upload="other", size=9, crc=1, **about)
            stage.machine.apply(1, encode_command(other))

    stage.log.before = displace
    answer = await stage.post(large(), **MEANT)
    assert answer.status_code == 409 and "another restore began" in answer.json()["error"]
    assert not stage.groups and list(stage.machine.state.uploads) == ["other"]


async def test_a_node_takes_one_copy_at_a_time(stage: Stage) -> None:
    holds, goes_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        copy = a_copy()
        yield copy[:10]
        holds.set()
        await goes_on.wait()
        yield copy[10:]

    first = asyncio.create_task(stage.post(slow(), **MEANT))
    await holds.wait()
    busy = await stage.post(a_copy("b"), key="other", **MEANT)
    assert (busy.status_code, busy.json()["retryable"]) == (503, True)
    goes_on.set()
    assert (await first).status_code == 200 and stage.groups == {"a"}
    assert (await stage.post(a_copy("b"), key="other", **MEANT)).status_code == 200


def test_the_description_tells_that_the_body_is_bytes(stage: Stage) -> None:
    body = document(stage.app, title="t", version="1", keys=True)["paths"]["/snapshot"]["post"]["requestBody"]
    assert body["content"] == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
