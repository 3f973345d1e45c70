"""Commands over HTTP: which worker gets them, with which key, and what an address and a key must be."""

from typing import Any

import pytest

from coordinator.state.commands import CreateGroup, RegisterWorker, StartMigration
from coordinator.state.constraints import Wants
from coordinator.state.records import NATS, REST, Cause
from coordinator.worker_commands import WorkerCommands
from coordinator.worker_rest import RestCarrier, check_registration
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Route, Undeploy
from proto_schemas.messages.membership import Capacity, Register
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from proto_schemas.subjects import Subjects
from tests.unit.coordinator.stage import Stage
from transport.errors import ErrorKind, NatsTransportError
from transport.http_client import HttpAnswer

KEY = "k" * 16
ADDRESS = "http://127.0.0.1:7001"


class FakeHttp:
    """Answers with `answer`; keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, str]]] = []
        self.answer = HttpAnswer(200, b'{"ok":true}', ADDRESS)

    async def send(
        self, method: str, base: str, target: str, body: bytes, headers: Any, *, timeout: float
    ) -> HttpAnswer:
        self.sent.append((method, base + target, headers))
        return self.answer


class Play:
    """A stage with workers of both carriers, and commands to them."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.http = FakeHttp()
        http: Any = self.http
        self.carrier = RestCarrier(http, lambda worker_id: self.stage.ledger.state.workers.get(worker_id))
        self.commands = WorkerCommands(self.stage.workers, Subjects(), self.carrier)

    async def join(self, worker_id: str, carrier: str = REST, incarnation: str = "i1") -> None:
        await self.stage.say(
            RegisterWorker,
            worker_id=worker_id,
            incarnation=incarnation,
            address=ADDRESS,
            cpu_cores=1,
            max_pipelines=10,
            carrier=carrier,
        )

    async def undeploy(self, worker_id: str) -> bool:
        return (await self.commands.undeploy(worker_id, Undeploy(pipeline_id="p-1", epoch=4))).ok

    async def failure(self, worker_id: str) -> ErrorKind:
        with pytest.raises(NatsTransportError) as failure:
            await self.undeploy(worker_id)
        assert KEY not in str(failure.value)
        return failure.value.kind


async def test_codes_that_a_worker_invents_are_counted_as_one() -> None:
    play = Play()
    await play.join("r")
    play.carrier.learn("r", "i1", KEY)
    for number in range(100):
        body = b'{"error":"no","code":"made-up-%d"}' % number
        play.http.answer = HttpAnswer(418, body, ADDRESS)
        with pytest.raises(WireError):
            await play.undeploy("r")
    assert play.carrier.asked == {("undeploy", "other"): 100}


async def test_each_worker_gets_its_commands_by_the_carrier_it_registered_with() -> None:
    play = Play()
    await play.join("n", carrier=NATS)
    await play.join("r")
    play.carrier.learn("r", "i1", KEY)
    assert await play.undeploy("n") and await play.undeploy("r")
    assert play.stage.workers.undeploys() == [("n", "p-1")]
    assert play.http.sent == [("DELETE", f"{ADDRESS}/api/v1/pipelines/p-1?epoch=4", {"x-api-key": KEY})]
    await play.join("r", carrier=NATS, incarnation="i2")
    assert await play.undeploy("r") and len(play.http.sent) == 1
    assert play.carrier.asked["undeploy", "ok"] == 1


async def test_without_its_key_a_worker_counts_as_not_reached_and_nothing_is_sent() -> None:
    play = Play()
    await play.join("r")
    assert await play.failure("r") is ErrorKind.UNAUTHORIZED
    for incarnation, key in (("i0", KEY), ("i1", None), ("i1", "short"), ("i1", f"{KEY}\r\nx: y")):
        play.carrier.learn("r", incarnation, key)
        assert await play.failure("r") is ErrorKind.UNAUTHORIZED
    play.carrier.learn("unknown", "i1", KEY)
    assert not play.http.sent and not play.carrier._keys


async def test_a_key_counts_for_the_process_that_sent_it() -> None:
    play = Play()
    await play.join("r")
    play.carrier.learn("r", "i1", KEY)
    await play.join("r", incarnation="i2")
    assert await play.failure("r") is ErrorKind.UNAUTHORIZED
    play.carrier.learn("r", "i2", KEY)
    assert await play.undeploy("r")
    play.carrier.forget("r")
    assert await play.failure("r") is ErrorKind.UNAUTHORIZED


async def test_401_is_no_word_of_our_worker_and_other_refusals_are() -> None:
    play = Play()
    await play.join("r")
    play.carrier.learn("r", "i1", KEY)
    play.http.answer = HttpAnswer(401, b'{"error":"no","code":"unauthorized","retryable":false}', ADDRESS)
    assert await play.failure("r") is ErrorKind.UNAUTHORIZED
    play.http.answer = HttpAnswer(409, b'{"error":"old","code":"stale_epoch","retryable":false}', ADDRESS)
    with pytest.raises(WireError) as refusal:
        await play.undeploy("r")
    assert refusal.value.code == ErrorCode.STALE_EPOCH
    assert play.carrier.asked == {("undeploy", "unauthorized"): 1, ("undeploy", "stale_epoch"): 1}


def register(address: str) -> Register:
    capacity = Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=1)
    return Register(worker_id="r", address=address, api_key="", capacity=capacity, carrier="rest")


@pytest.mark.parametrize(
    ("address", "key", "text"),
    [
        ("", KEY, "address"),
        ("worker:7001", KEY, "address"),
        ("http://me:hunter2@127.0.0.1:7001", KEY, "credentials"),
        ("http://10.0.0.7:7001", KEY, "https"),
        (ADDRESS, None, "x-worker-key"),
        (ADDRESS, "short", "x-worker-key"),
        (ADDRESS, "k" * 513, "x-worker-key"),
    ],
)
def test_a_registration_without_a_safe_address_and_a_key_is_refused(
    address: str, key: str | None, text: str
) -> None:
    with pytest.raises(WireError, match=text) as refusal:
        check_registration(register(address), key, insecure=False)
    assert refusal.value.status == 400 and "hunter2" not in str(refusal.value)


def test_beyond_this_machine_it_is_tls_or_said_to_be_insecure() -> None:
    check_registration(register(ADDRESS), KEY, insecure=False)
    check_registration(register("https://10.0.0.7"), KEY, insecure=False)
    check_registration(register("http://10.0.0.7:7001"), KEY, insecure=True)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    ("route", "blocked"),
    [
        (None, False),
        (Route(from_pipeline="_external", to_pipeline="p", event_types=["*"]), False),
        (Route(from_pipeline="_external", to_pipeline="p", event_types=["*"], nats_subject="x"), True),
        (Route(from_pipeline="p", to_pipeline="q", event_types=["*"]), True),
        (Route(from_pipeline="q", to_pipeline="q", event_types=["*"]), False),
    ],
)
async def test_only_routes_that_need_nats_keep_a_pipeline_from_a_worker_without(
    route: Route | None, blocked: bool, replicas: int
) -> None:
    play = Play()
    await play.join("r")
    await play.join("n", carrier=NATS)
    pipelines = [PipelineSpec(name=name, source="-", replicas=replicas) for name in ("p", "q")]
    spec = GroupSpec(name="g", pipelines=pipelines, routes=[route] if route else [])
    await play.stage.say(CreateGroup, spec=spec, consumes={})
    state = play.stage.ledger.state
    wants = Wants.of(state.groups["g"], "p" if replicas == 1 else "p-1")
    assert {name for name, worker in state.workers.items() if not wants.fits(worker)} == (
        {"r"} if blocked else set()
    )


async def test_what_needs_nats_is_not_moved_to_a_worker_without() -> None:
    play = Play()
    await play.join("n", carrier=NATS)
    await play.join("r")
    routes = [Route(from_pipeline="p", to_pipeline="q", event_types=["*"])]
    spec = GroupSpec(
        name="g", pipelines=[PipelineSpec(name=name, source="-") for name in "pq"], routes=routes
    )
    await play.stage.say(CreateGroup, spec=spec, consumes={})
    await play.stage.settle()
    for to in ("r", ""):
        with pytest.raises(WireError, match=r"no NATS, which (its|the) routes"):
            await play.stage.say(
                StartMigration, group="g", pipeline="p", epoch=0, to_worker=to, cause=Cause.MANUAL
            )


async def test_where_every_worker_lacks_nats_the_reason_says_so() -> None:
    play = Play()
    for name in ("r0", "r1"):
        await play.join(name)
    routes = [Route(from_pipeline="p", to_pipeline="q", event_types=["*"])]
    spec = GroupSpec(
        name="g", pipelines=[PipelineSpec(name=name, source="-") for name in "pqx"], routes=routes
    )
    await play.stage.say(CreateGroup, spec=spec, consumes={})
    await play.stage.settle()
    placement = play.stage.ledger.state.placement("g", "p")
    assert placement is not None and placement.worker_id is None
    assert placement.reason is not None and "2 have no NATS" in placement.reason
    assert "refused" not in placement.reason
    assert {deploy.name for _, deploy in play.stage.workers.deploys()} == {"x"}
    await play.join("n", carrier=NATS)
    await play.stage.settle()
    told = {(deploy.name, worker) for worker, deploy in play.stage.workers.deploys()}
    assert {("p", "n"), ("q", "n")} <= told and len(told) == 3
