"""What of a program is refused before it is replicated: its routes, its secrets, its connectors."""

from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.api.programs import check_group, diagnose, sharers_by_key
from coordinator.state.records import Connector
from coordinator.state.versions import Group
from proto_schemas.errors import WireError
from proto_schemas.messages.deploys import Route
from proto_schemas.rest.groups import GroupSpec, PipelineSpec

PREFIX = "plant.seven"


def spec(subject: str) -> GroupSpec:
    route = Route(from_pipeline="p", to_pipeline="p", event_types=["*"], nats_subject=subject)
    pipeline = PipelineSpec(name="p", source="stream Out = In.where(x > 0).emit(x: x)")
    return GroupSpec(name="g", pipelines=[pipeline], routes=[route], allow_cycles=True)


@pytest.mark.parametrize(
    "subject",
    [
        "plant.seven",
        "plant.seven.cmd.worker-1.drain",
        "plant.seven.raft.c0.append",
        "plant.seven.pipeline.other.a.b",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.INFO",
        "_INBOX.worker-1",
        "_INBOX",
    ],
)
async def test_a_route_to_a_subject_of_the_cluster_or_of_nats_is_refused_with_its_path(subject: str) -> None:
    with pytest.raises(WireError, match=r"\$\.routes\[0\]\.nats_subject.*choose one outside") as caught:
        await check_group(spec(subject), PREFIX)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "subject", ["plant", "plant.seventeen.x", "plants.out", "varpulis.cluster.x", "a.$b"]
)
async def test_a_route_to_any_other_subject_is_taken(subject: str) -> None:
    assert await check_group(spec(subject), PREFIX) == ({"p": ["In"]}, {}, {})


async def test_a_queue_group_of_a_registered_connector_contradicts_a_partition_key() -> None:
    source = 'stream Out = In.from(Bus, topic: "t").emit(x: x)'
    keyed = PipelineSpec(name="p", source=source, replicas=2, partition_key="x")
    bus = Connector(name="Bus", connector_type="nats", created_at=1, updated_at=1)
    group = GroupSpec(name="g", pipelines=[keyed])
    assert (await check_group(group, PREFIX, {"Bus": bus})).connectors == {"p": ["Bus"]}
    sharing = {"Bus": replace(bus, params={"queue_group": "cell"})}
    with pytest.raises(WireError, match=r"\$\.pipelines\[0\]\.partition_key: .*Bus has a queue_group"):
        await check_group(group, PREFIX, sharing)


async def test_who_reads_from_a_connector_and_shares_by_key_is_found_and_nobody_else() -> None:
    reads = 'stream Out = In.from(Bus, topic: "t").emit(x: x)'
    writes = 'stream Out = In.emit(x: x).to(Bus, topic: "t")'
    keyed: dict[str, Any] = {"replicas": 2, "partition_key": "x"}

    def found(name: str, source: str, **more: Any) -> Group:
        pipelines = [PipelineSpec(name="p", source=source, **more)]
        spec = GroupSpec(name=name, pipelines=pipelines)
        return Group(spec=spec, consumes={}, connectors={"p": ["Bus"]}, created_at=1)

    groups = [
        found("reads", reads, **keyed),
        found("writes", writes, **keyed),
        found("alone", reads, partition_key="x"),
        found("any", reads, replicas=2),
    ]
    assert await sharers_by_key(groups, "Bus") == ["reads/p"]
    assert await sharers_by_key(groups, "Other") == []


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        ('nats(servers: "nats://h:4222", password: "hunter2", user: "u")', "password"),
        ('nats(servers: ["nats://h:4222", "nats://u:hunter2@h:4222"])', "servers"),
        ('nats(url: "nats://hunter2@h:4222")', "url"),
        ('nats(servers: "nats://h:4222", token: "hunter2")', "token"),
    ],
)
async def test_a_program_in_which_a_secret_is_written_is_refused_with_its_line_and_without_it(
    declared: str, names: str
) -> None:
    source = f'# a\nconnector Bus = {declared}\nstream Out = In.from(Bus, topic: "t").emit(x: x)'
    group = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source)])
    with pytest.raises(WireError, match=f"the {names} of connector Bus holds a secret") as caught:
        await check_group(group, PREFIX)
    assert caught.value.status == 422
    [found] = list(caught.value.diagnostics or [])
    assert (found.line, found.column) == (2, 1) and "env:NAME" in (found.hint or "")
    assert "hunter2" not in str(caught.value) + str(found)


async def test_a_reference_to_a_secret_is_none() -> None:
    source = (
        'connector Bus = nats(servers: "env:HOSTS", token: "file:/run/token")\n'
        'stream Out = In.from(Bus, topic: "t").emit(x: x)'
    )
    assert await check_group(GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source)]), PREFIX)


@pytest.mark.parametrize(
    ("stream", "text", "column"),
    [
        ('In.from(Bus, topic: "t").emit().to(Bus, topik: "x")', "did you mean 'topic'", 46),
        ("In.from(Bus).emit()", ".from needs topic", 17),
        ('In.from(Bus, topic: "t", durable: "d").emit()', "stream and durable go together", 17),
        ('In.from(Bus, topic: "t", stream: "S", durable: "d", queue_group: "q")', "no queue_group", 17),
        ('In.from(Disk, path: "in", follow: "yes").emit()', "follow: true or false", 17),
        ('In.from(Out, topic: "t").emit()', "console brings no events: use one of file, memory, nats", 17),
        ('In.to(Bus, format: "xml")', "format: give nested or flat", 17),
        ("In.to(Bus, topic: 5)", "topic: give text", 17),
        ('In.to(Known, topik: "x")', "did you mean 'topic'", 17),
    ],
)
async def test_a_source_or_sink_that_no_worker_would_open_is_refused_at_its_place(
    stream: str, text: str, column: int
) -> None:
    source = (
        'connector Bus = nats(servers: "nats://h:4222")\nconnector Disk = file()\nconnector Out = console()\n'
        f"stream Seen = {stream}\n"
    )
    known = {"Known": Connector(name="Known", connector_type="nats", created_at=0, updated_at=0)}
    group = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source)])
    with pytest.raises(WireError) as refused:
        await check_group(group, PREFIX, registered=known)
    [finding] = list(refused.value.diagnostics or [])
    assert text in finding.message and (finding.line, finding.column) == (4, column)
    (shown,) = await diagnose(source, known)
    assert text in shown.message


@pytest.mark.parametrize(
    ("declaration", "text"),
    [
        ("natz()", "'natz' is unknown: did you mean 'nats'"),
        ('nats(servrs: "nats://a")', "servrs of connector Bus: nats has no such parameter: did you mean"),
        ('nats(user: "u")', "user is given without password"),
        ("nats(connect_timeout: 0)", "connect_timeout of connector Bus: give a number of seconds"),
        ("nats(servers: 5)", "servers of connector Bus: give text"),
        ('file(sync: "now")', "sync of connector Bus: give always, interval, never"),
        ('memory(topic: "t")', "topic of connector Bus: memory has no such parameter"),
    ],
)
async def test_a_declared_connector_that_no_worker_would_take_is_refused_where_it_is_declared(
    declaration: str, text: str
) -> None:
    source = f"const A = 1\n  connector Bus = {declaration}\nstream Out = In.emit(n: n)\n"
    group = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source)])
    with pytest.raises(WireError) as refused:
        await check_group(group, PREFIX)
    [finding] = list(refused.value.diagnostics or [])
    assert text in finding.message and (finding.line, finding.column) == (2, 3)
    (shown,) = await diagnose(source)
    assert text in shown.message
