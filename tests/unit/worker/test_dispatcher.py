"""One table of commands, whatever the carrier: played here with handlers that tests hold in their hands, as
bytes of NATS and as requests of HTTP.
"""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.events import Inject, Injected
from proto_schemas.worker_rest import to_request
from worker import dispatcher as module
from worker.dispatcher import Dispatcher
from worker.http_carrier import HttpCarrier


class Stage:
    """Handlers that note what they were called with and wait where a test says so."""

    def __init__(self, carrier: str = "nats") -> None:
        self.carrier = carrier
        self.calls: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.failure: Exception | None = None
        self.dispatcher = Dispatcher(
            {"deploy": self.deploy, "inject": self.inject, "undeploy": self.undeploy}, self.locate
        )
        self.http = HttpCarrier(self.dispatcher, "key")

    def locate(self, pipeline_id: str) -> tuple[str, str] | None:
        return ("g", pipeline_id.partition("-")[0]) if "-" in pipeline_id else None

    async def deploy(self, request: Deploy) -> Deployed:
        self.calls.append(f"deploy {request.name}")
        if self.failure is not None:
            raise self.failure
        if request.name in self.gates:
            await self.gates[request.name].wait()
        return Deployed(id=f"{request.name}-{len(self.calls)}", name=request.name, status="running")

    async def inject(self, request: Inject) -> Injected:
        self.calls.append(f"inject {request.pipeline_id}")
        return Injected(ok=True, output_events=[])

    async def undeploy(self, request: Undeploy) -> Ok:
        self.calls.append(f"undeploy {request.pipeline_id}")
        return Ok(ok=True)

    async def send(self, command: str, message: Any) -> Any:
        if self.carrier == "rest":
            kind = COMMANDS[command][0]
            return await self.request(*to_request(command, msgspec.convert(message, kind)))
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        return json.loads(await self.dispatcher.dispatch(command, data))

    async def request(self, method: str, target: str, body: bytes) -> Any:
        """The answer to a request, without a network."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"x-api-key", b"key")],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.http(scope, receive, send)
        answer = json.loads(b"".join(message.get("body", b"") for message in sent))
        refused = "code" in answer
        assert (sent[0]["status"] >= 400) is refused
        return answer

    def start(self, command: str, message: Any) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.send(command, message))


@pytest.fixture(params=["nats", "rest"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """For what holds over both carriers."""
    return Stage(request.param)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_unknown_command_is_answered_with_the_known_ones() -> None:
    stage = Stage()
    answer = await stage.send("explode", {})
    assert answer["code"] == "unknown_command"
    assert all(command in answer["error"] for command in COMMANDS)
    assert stage.dispatcher.answered["?", "unknown_command"] == 1


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (b"", "empty message"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "Deploy"),
        (b"[]", "Expected `object`"),
        ({"name": "p"}, "`source`"),
        ({"name": "p", "source": 5}, "$.source"),
        ({"name": "", "source": ""}, "$.name"),
        ({"name": "p", "source": "", "group": "a.b"}, "$.group"),
        ({"name": "p", "source": "", "epoch": "x"}, "$.epoch"),
        ({"name": "p", "source": "", "routes": [{"from_pipeline": "a"}]}, "$.routes[0]"),
    ],
)
async def test_a_malformed_request_is_refused_with_the_path_of_the_field(message: Any, path: str) -> None:
    stage = Stage()
    answer = await stage.send("deploy", message)
    assert answer["code"] == "bad_request"
    assert path in answer["error"]
    assert stage.calls == []


async def test_a_handler_that_raises_costs_one_answer_with_an_id_that_stands_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.failure = RuntimeError("a loose wire")
    answer = await stage.send("deploy", {"name": "p", "source": ""})
    assert answer["code"] == "internal"
    assert "a loose wire" not in answer["error"]
    incident = answer["error"].split()[-1]
    assert incident in caplog.text and "a loose wire" in caplog.text
    assert (await stage.send("inject", {"pipeline_id": "p-1", "event_type": "E"}))["ok"]


async def test_a_request_id_seen_before_gets_the_first_answer_again(stage: Stage) -> None:
    request = {"name": "p", "source": "", "request_id": "r1"}
    first = await stage.send("deploy", request)
    assert await stage.send("deploy", request) == first
    assert await stage.send("deploy", request | {"name": "q"}) == first
    assert stage.calls == ["deploy p"]
    assert (await stage.send("deploy", request | {"request_id": "r2"}))["id"] == "p-2"


async def test_a_duplicate_waits_for_the_first_when_that_is_still_at_work(stage: Stage) -> None:
    stage.gates["p"] = asyncio.Event()
    request = {"name": "p", "source": "", "request_id": "r1"}
    first, second = stage.start("deploy", request), stage.start("deploy", request)
    await turns()
    assert not first.done() and not second.done()
    stage.gates["p"].set()
    assert await first == await second
    assert stage.calls == ["deploy p"]


async def test_one_request_id_may_serve_two_commands(stage: Stage) -> None:
    await stage.send("deploy", {"name": "p", "source": "", "request_id": "r"})
    await stage.send("undeploy", {"pipeline_id": "p-1", "request_id": "r"})
    assert stage.calls == ["deploy p", "undeploy p-1"]


async def test_a_refusal_that_may_pass_is_not_the_answer_for_ever(stage: Stage) -> None:
    request = {"name": "p", "source": "", "request_id": "r"}
    stage.failure = WireError(ErrorCode.UNAVAILABLE, "later")
    assert (await stage.send("deploy", request))["retryable"]
    stage.failure = WireError(ErrorCode.CONFLICT, "never")
    assert (await stage.send("deploy", request))["code"] == "conflict"
    stage.failure = None
    assert (await stage.send("deploy", request))["code"] == "conflict"


async def test_the_oldest_answers_are_forgotten_beyond_the_bound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    for request_id in ("r1", "r2", "r3", "r3", "r2", "r1"):
        await stage.send("deploy", {"name": request_id, "source": "", "request_id": request_id})
    assert stage.calls == ["deploy r1", "deploy r2", "deploy r3", "deploy r1"]


async def test_large_answers_are_forgotten_sooner(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 10)
    for _ in range(2):
        await stage.send("deploy", {"name": "p", "source": "", "request_id": "r"})
    assert stage.calls == ["deploy p", "deploy p"]


async def test_commands_of_one_pipeline_keep_their_order_and_others_do_not_wait(stage: Stage) -> None:
    stage.gates["p"] = asyncio.Event()
    deploy = stage.start("deploy", {"name": "p", "source": "", "group": "g"})
    await turns()
    inject = stage.start("inject", {"pipeline_id": "p-1", "event_type": "E"})
    undeploy = stage.start("undeploy", {"pipeline_id": "p-1"})
    other = stage.start("inject", {"pipeline_id": "q-1", "event_type": "E"})
    assert (await other)["ok"]
    assert stage.calls == ["deploy p", "inject q-1"]
    stage.gates["p"].set()
    await asyncio.gather(deploy, inject, undeploy)
    assert stage.calls == ["deploy p", "inject q-1", "inject p-1", "undeploy p-1"]


async def test_a_flood_is_answered_and_not_queued(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    stage.gates["p"] = asyncio.Event()
    waiting = [stage.start("deploy", {"name": "p", "source": ""}) for _ in range(2)]
    await turns()
    answer = await stage.send("inject", {"pipeline_id": "q-1", "event_type": "E"})
    assert answer["code"] == "unavailable" and answer["retryable"]
    stage.gates["p"].set()
    await asyncio.gather(*waiting)
    assert (await stage.send("inject", {"pipeline_id": "q-1", "event_type": "E"}))["ok"]


async def test_a_command_older_than_one_seen_is_refused_by_both_numbers(stage: Stage) -> None:
    deploy = {"name": "p", "source": "", "group": "g", "term": 3, "epoch": 9}
    await stage.send("deploy", deploy)
    stale_epoch = await stage.send("undeploy", {"pipeline_id": "p-1", "term": 3, "epoch": 8})
    stale_term = await stage.send("inject", {"pipeline_id": "p-1", "event_type": "E", "term": 2})
    assert stale_epoch["code"] == stale_term["code"] == "stale_epoch"
    assert "epoch 8" in stale_epoch["error"] and "epoch 9" in stale_epoch["error"]
    assert "term 2" in stale_term["error"] and "term 3" in stale_term["error"]
    assert stage.calls == ["deploy p"]
    assert (await stage.send("undeploy", {"pipeline_id": "p-1"}))["ok"]


async def test_a_command_of_an_older_term_than_the_leader_who_answered_last_is_refused() -> None:
    stage = Stage()
    stage.dispatcher = Dispatcher({"deploy": stage.deploy}, stage.locate, term=lambda: 4)
    deploy = {"name": "p", "source": "", "group": "g", "epoch": 9}
    assert (await stage.send("deploy", {**deploy, "term": 3}))["code"] == "stale_epoch"
    assert (await stage.send("deploy", {**deploy, "term": 4}))["status"] == "running"


async def test_an_answer_too_large_to_send_is_an_error_and_not_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAYLOAD", 10)
    answer = await stage.send("deploy", {"name": "p", "source": ""})
    assert answer["code"] == "engine_error"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
requests = st.dictionaries(
    st.sampled_from(
        ["name", "source", "group", "routes", "pipeline_id", "event_type", "fields", "term", "epoch"]
    ),
    anything,
)


@given(
    command=st.sampled_from(["deploy", "inject", "undeploy"]) | st.text(),
    data=st.binary() | requests.map(lambda request: json.dumps(request).encode()),
)
def test_whatever_comes_is_answered_with_success_or_a_typed_error(command: str, data: bytes) -> None:
    async def answered() -> Any:
        return await Stage().send(command, data)

    answer = asyncio.run(answered())
    assert answer.get("code") in (None, "bad_request", "unknown_command", "stale_epoch")
    assert "code" not in answer or answer["error"]
