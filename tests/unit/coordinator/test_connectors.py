"""Registered connectors: what is refused, what is shown, what is told apart, who uses them."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import pytest

from coordinator.connectors import check, for_worker, shown, to_reseal
from coordinator.security.sealing import Sealer, SealError, key_ids
from coordinator.state.apply import apply
from coordinator.state.commands import CreateGroup, DeleteConnector, RegisterWorker, SaveConnector
from coordinator.state.model import State
from coordinator.state.records import Connector
from coordinator.state.results import Done, Refused
from proto_schemas.connectors import TYPES, secret_names
from proto_schemas.messages.deploys import ConnectorParams, Deploy
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.unit.coordinator.stage import Stage
from transport.config import NatsConfig
from transport.keyring import KeyRing, new_key
from worker.connectors import registry
from worker.connectors.base import Site

SECRET = "hunter2-hunter2"


SEALER = Sealer(KeyRing(text=new_key("k1")))


def save(name: str = "Bus", *, new: bool = True, **changes: Any) -> SaveConnector:
    fields: dict[str, Any] = {
        "connector_type": "nats",
        "params": {"servers": "nats://a"},
        "at": 7,
        "by": "api",
        **changes,
    }
    return SaveConnector(name=name, new=new, **fields)


def group(name: str = "g", connectors: Collection[str] = ("Bus",)) -> CreateGroup:
    spec = GroupSpec(name=name, pipelines=[PipelineSpec(name="p", source="-")])
    return CreateGroup(by="api", at=9, spec=spec, consumes={}, connectors={"p": list(connectors)})


def test_the_types_are_those_of_the_worker_and_their_parameters_are_those_it_reads() -> None:
    assert TYPES.keys() == registry.TYPES.keys()
    ours = {field.name for field in fields(NatsConfig)} | {"url", "server", "queue_group"}
    assert TYPES["nats"].keys() == ours
    for kind in ("console", "file", "memory"):
        values = {key: param.choices[0] if param.choices else "v" for key, param in TYPES[kind].items()}
        registry.TYPES[kind]("x", values, Site())


@pytest.mark.parametrize(
    ("name", "kind", "params", "text"),
    [
        ("a b", "nats", {}, r"\$\.name"),
        ("a-b", "nats", {}, r"\$\.name"),
        ("Bus", "natz", {}, r"\$\.connector_type.*did you mean 'nats'"),
        ("Bus", "kafka", {}, r"\$\.connector_type.*known are"),
        ("Bus", "nats", {"server_s": "nats://a"}, r"\$\.params\.server_s.*did you mean 'servers'"),
        ("Bus", "file", {"sync": "now"}, r"\$\.params\.sync.*always, interval, never"),
        ("Bus", "file", {"path": "a"}, r"\$\.params\.path.*known are sync"),
        ("Bus", "memory", {"topic": "t"}, r"\$\.params\.topic.*none"),
        ("Bus", "nats", {"servers": 7}, r"\$\.params\.servers"),
        ("Bus", "nats", {"servers": []}, r"\$\.params\.servers"),
        ("Bus", "nats", {"servers": ["http://a"]}, r"http.*nats://"),
        ("Bus", "nats", {"servers": f"nats://u:{SECRET}@a"}, r"\$\.params\.servers.*no user"),
        ("Bus", "nats", {"servers": "nats://a", "url": "nats://b"}, "contradict"),
        ("Bus", "nats", {"user": "u"}, "without password"),
        ("Bus", "nats", {"token": SECRET, "creds": "c"}, "contradict"),
        ("Bus", "nats", {"password": 7, "user": "u"}, r"\$\.params\.password"),
        ("Bus", "nats", {"connect_timeout": "2"}, r"\$\.params\.connect_timeout"),
        ("Bus", "nats", {"connect_timeout": 0}, r"\$\.params\.connect_timeout"),
        ("Bus", "nats", {"token": SECRET * 2000}, r"\$\.params\.token"),
    ],
)
def test_what_no_worker_would_take_is_refused_with_its_path_and_without_its_secret(
    name: str, kind: str, params: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        check(name, kind, params)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"servers": ["nats://a:4222", "tls://b"], "queue_group": "q"},
        {"url": "env:BUS", "user": "u", "password": "env:PASSWORD", "connect_timeout": "env:SECS"},
        {"servers": "nats://a", "nkey_seed": "file:/run/seed", "ping_interval": 2},
    ],
)
def test_what_a_worker_takes_is_taken(params: dict[str, Any]) -> None:
    check("Bus", "nats", params)


def test_without_a_key_secrets_are_refused_and_references_are_not() -> None:
    params = {"user": "u", "password": "env:P", "token": SECRET}
    assert secret_names("nats", params) == ["token"], "where a secret lies is none"
    with pytest.raises(SealError, match="no cluster key"):
        Sealer(None).seal(params, secret_names("nats", params), about="x")
    references = {"user": "u", "password": "env:P"}
    assert Sealer(None).seal(references, secret_names("nats", references), about="x") == references


def test_no_text_shows_a_secret() -> None:
    sealed = SEALER.seal({"user": "u", "token": SECRET}, ["token"], about="connector/Bus")
    connector = Connector(name="Bus", connector_type="nats", params=sealed, created_at=1, updated_at=1)
    assert shown(connector) == {"user": "u", "token": "***"}
    (opened,) = for_worker(State(connectors={"Bus": connector}), ["Bus"], SEALER)
    assert opened.params == {"user": "u", "token": SECRET}
    deploy = Deploy(name="p", source="", connectors=[opened])
    assert SECRET not in repr(opened) and SECRET not in repr(deploy)
    with pytest.raises(ValueError, match="not registered"):
        for_worker(State(), ["Bus"], SEALER)


def test_a_connector_is_registered_once_changed_counted_and_deleted() -> None:
    state = State()
    assert isinstance(apply(state, save(new=False)).result, Refused), "there is none to change"
    assert apply(state, save()).result == Done()
    again = apply(state, save()).result
    assert isinstance(again, Refused) and again.code == "conflict"
    apply(state, save(new=False, at=8, description="d"))
    connector = state.connectors["Bus"]
    assert (connector.version, connector.created_at, connector.updated_at) == (2, 7, 8)
    assert apply(state, DeleteConnector(by="api", name="Bus")).result == Done()
    gone = apply(state, DeleteConnector(by="api", name="Bus")).result
    assert isinstance(gone, Refused) and gone.code == "not_found"
    assert [event.what for event in state.audit] == [
        "connector_created",
        "connector_changed",
        "connector_deleted",
    ]


def test_what_a_program_names_is_not_deleted_and_keeps_its_type() -> None:
    stage = Stage()
    state = stage.machine.state
    apply(state, save())
    missing = apply(state, group(connectors=["Bus", "Gone"])).result
    assert isinstance(missing, Refused) and missing.code in ("parse_error", "unavailable")
    state.groups.clear()
    apply(state, RegisterWorker(by="t", worker_id="w1", address="a", cpu_cores=1, max_pipelines=5))
    missing = apply(state, group(connectors=["Bus", "Gone"])).result
    assert isinstance(missing, Refused) and missing.code == "parse_error" and "'Gone'" in missing.error
    assert apply(state, group()).result == Done()
    assert state.users_of("Bus") == ["g/p"]
    for command in (
        DeleteConnector(by="api", name="Bus"),
        save(new=False, connector_type="memory", params={}),
    ):
        held = apply(state, command).result
        assert isinstance(held, Refused) and held.code == "conflict" and "g/p" in held.error


def test_a_secret_that_is_kept_stays_and_one_that_never_was_is_refused() -> None:
    state = State()
    apply(state, save(params={"token": {"$": 1}}, sealed=["token"]))
    changed = save(new=False, params={"servers": "nats://b"}, kept=["token"])
    assert apply(state, changed).result == Done()
    assert state.connectors["Bus"].params == {"servers": "nats://b", "token": {"$": 1}}
    wrong = apply(state, save(new=False, params={}, kept=["password"])).result
    assert isinstance(wrong, Refused) and "$.params.password" in wrong.error


def test_a_request_that_comes_again_sealed_anew_is_the_same_request() -> None:
    """Each node that a retry goes through seals with a nonce of its own."""
    state = State()
    one, other = (save(request_id="k", params={"token": {"$": nonce}}, sealed=["token"]) for nonce in (1, 2))
    assert apply(state, one).result == apply(state, other).result == Done()
    assert state.connectors["Bus"].version == 1 and state.connectors["Bus"].params == {"token": {"$": 1}}
    another = save(request_id="k", params={"servers": "nats://b"}, sealed=[])
    refused = apply(state, another).result
    assert isinstance(refused, Refused) and refused.code == "conflict"


def test_after_a_rotation_every_connector_is_brought_to_the_signing_key_unless_it_changed_meanwhile() -> None:
    old, new = new_key("old"), new_key("new")
    sealed = Sealer(KeyRing(text=old)).seal({"token": SECRET}, ["token"], about="connector/Bus")
    state = State()
    apply(state, save(params=sealed, sealed=["token"]))
    rotated = Sealer(KeyRing(text=new + old))
    (command,) = to_reseal(state, rotated)
    apply(state, save(new=False, params={"servers": "nats://b"}, kept=["token"]))
    late = apply(state, command).result
    assert isinstance(late, Refused) and late.code == "conflict"
    (command,) = to_reseal(state, rotated)
    assert apply(state, command).result == Done() and state.connectors["Bus"].version == 2
    assert key_ids(state.connectors["Bus"].params) == {"new"} and not list(to_reseal(state, rotated))
    (opened,) = for_worker(state, ["Bus"], Sealer(KeyRing(text=new)))
    assert opened.params["token"] == SECRET, "without the old key"


async def test_a_deploy_carries_what_its_program_names_and_nothing_else() -> None:
    stage = Stage()
    stage.loop.placement._do.briefing._sealer = SEALER
    await stage.join("w1")
    sealed = SEALER.seal({"token": SECRET}, ["token"], about="connector/Bus")
    await stage.say(SaveConnector, name="Bus", connector_type="nats", params=sealed, new=True)
    await stage.say(SaveConnector, name="Other", connector_type="memory", params={}, new=True)
    await stage.ledger.propose(group())
    await stage.settle()
    ((_, deploy),) = stage.workers.deploys()
    assert deploy.connectors == [ConnectorParams(name="Bus", connector_type="nats", params={"token": SECRET})]


async def test_each_instance_of_a_pipeline_gets_the_connectors_that_the_pipeline_names() -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    await stage.say(SaveConnector, name="Bus", connector_type="memory", params={}, new=True)
    spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="-", replicas=2)])
    await stage.say(CreateGroup, spec=spec, consumes={}, connectors={"p": ["Bus"]})
    await stage.settle()
    assert [[each.name for each in deploy.connectors or ()] for _, deploy in stage.workers.deploys()] == [
        ["Bus"]
    ] * 2


async def test_a_connector_that_does_not_open_fails_its_pipeline_with_the_reason() -> None:
    stage = Stage()
    stage.loop.placement._do.briefing._sealer = Sealer(KeyRing(text=new_key("k2")))
    await stage.join("w1")
    sealed = SEALER.seal({"token": SECRET}, ["token"], about="connector/Bus")
    await stage.say(SaveConnector, name="Bus", connector_type="nats", params=sealed, new=True)
    await stage.ledger.propose(group())
    await stage.settle()
    placement = stage.placed("g", "p")
    assert placement.phase == "failed" and "sealed under key 'k1'" in (placement.reason or "")
    assert not stage.workers.deploys()
