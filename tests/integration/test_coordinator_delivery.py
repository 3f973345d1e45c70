"""Groups that deliver exactly once, as coordinators keep them, within the permissions of deploy/nats: their
stream comes and goes with them, an event is stored once under its client's key, and what cannot be promised
is refused.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.app import Coordinator
from proto_schemas.errors import WireError
from proto_schemas.subjects import Subjects
from tests.integration.test_nats_permissions import COORDINATORS, DEPLOY, environment, nats_config
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, config
from transport.jetstream import NO_STREAM, JetStream
from transport.nats import NatsTransport
from worker.app import Worker, WorkerConfig
from worker.delivery.reader import Reader

SUBJECTS = Subjects()
STREAM = SUBJECTS.stream("g")
EXTERNAL = {"from_pipeline": "_external", "to_pipeline": "p", "event_types": ["In"]}


def spec(**more: Any) -> dict[str, Any]:
    source = "stream Sums = In.partition_by(k).window(3).aggregate(k: last(k), n: sum(n)).emit(k: k, n: n)"
    pipeline = {"name": "p", "source": source, "replicas": 2, "partition_key": "k"}
    return {
        "name": "g",
        "pipelines": [{**pipeline, **more.pop("pipeline", {})}],
        "routes": [EXTERNAL],
        "delivery": "exactly_once",
        **more,
    }


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """With the lines for delivery, which are comments in the file."""
    text = (DEPLOY / "limits.conf").read_text() + (DEPLOY / "users.conf").read_text()
    for variable, value in environment().items():
        text = re.sub(rf"\${variable}\b", value, text)
    with NatsServer(jetstream=True, extra=text.replace("# delivery: ", "")) as server:
        yield server


@pytest.fixture
async def stage(server: NatsServer, tmp_path: Path) -> AsyncIterator[Three]:
    stage = Three(server.url, tmp_path)
    try:

        async def start(node_id: str) -> None:
            login = nats_config(server, node_id)
            node = Coordinator(config(node_id, server.url, tmp_path, members=COORDINATORS, nats=login))
            await node.start()
            stage.nodes[node_id] = node

        await asyncio.gather(*map(start, COORDINATORS))
        await stage.has_leader()
        yield stage
    finally:
        if "g" in (await stage.ask("GET", "/pipeline-groups")).text:
            await stage.ask("DELETE", "/pipeline-groups/g?wait=10")
        await stage.http.aclose()
        await asyncio.gather(*(stage.stop(node_id) for node_id in list(stage.nodes)))


@asynccontextmanager
async def workers(server: NatsServer, tmp_path: Path, **more: Any) -> AsyncIterator[list[Worker]]:
    """Two of them, members with a lease."""
    made = [
        Worker(
            WorkerConfig(
                f"worker-{n}",
                nats=nats_config(server, f"worker-{n}"),
                data_dir=tmp_path / str(n),
                **{"checkpoint_store": f"dir:{tmp_path / 'checkpoints'}", **more},
            )
        )
        for n in range(2)
    ]
    await asyncio.gather(*(worker.start() for worker in made))
    try:
        await until(
            lambda: all(worker.health()["ready"] and worker.health()["lease_open"] for worker in made),
            timeout=15,
            what="both workers are members with a lease",
        )
        yield made
    finally:
        await asyncio.gather(*(worker.stop() for worker in made))


@asynccontextmanager
async def operator(server: NatsServer) -> AsyncIterator[JetStream]:
    bus = await NatsTransport.connect(nats_config(server, "operator"), wait=5.0)
    try:
        yield JetStream(bus)
    finally:
        await bus.close()


async def stream(server: NatsServer) -> dict[str, Any] | None:
    """The configuration of the group's stream; None: there is none."""
    async with operator(server) as jetstream:
        found = await jetstream.api(f"STREAM.INFO.{STREAM}", none=(NO_STREAM,))
    return found["config"] if found is not None else None


async def outputs(server: NatsServer) -> list[dict[str, Any]]:
    """What has left the group."""
    found: list[dict[str, Any]] = []
    async with operator(server) as jetstream:
        reader = Reader(jetstream, STREAM, [f"{SUBJECTS.prefix}.pipeline.g.*._external"], 0)
        while not reader.caught_up or reader.position == 0:
            found += [json.loads(each.data)["fields"] for each in await reader.take(100, 0.1)]
            if reader.caught_up:
                break
        await reader.stop()
    return found


async def inject(stage: Three, event: dict[str, Any], key: str) -> dict[str, Any]:
    body = {"event_type": "In", "fields": event}
    answer = await stage.ask("POST", "/pipeline-groups/g/inject", body, headers={"idempotency-key": key})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["worker_response"]
    return told


async def test_a_group_has_its_stream_takes_each_key_once_and_takes_it_along(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    async with workers(server, tmp_path):
        made = await stage.ask("POST", "/pipeline-groups?wait=15", spec())
        assert made.status_code == 201, made.text
        present = await stream(server)
        assert present is not None and present["discard"] == "new"
        first = await inject(stage, {"k": "a", "n": 1}, "key-1")
        assert first["ok"] and not first["duplicate"]
        again = await inject(stage, {"k": "a", "n": 1}, "key-1")
        assert again["duplicate"] and again["stored"] == first["stored"]
        events = [{"event_type": "In", "fields": {"k": k, "n": n}} for n in (2, 3, 4) for k in "abcd"]
        batch = {"events": [*events, {"event_type": "Other"}, 7]}
        for _ in range(2):  # a client that heard no answer sends it again
            answer = await stage.ask(
                "POST", "/pipeline-groups/g/inject-batch", batch, headers={"idempotency-key": "key-2"}
            )
            told = answer.json()
            assert (told["events_sent"], told["events_failed"]) == (12, 2), told
        assert "takes no 'Other'" in told["errors"][0], told
        wanted = [{"k": k, "n": 6 if k == "a" else 9} for k in "abcd"]

        async def complete() -> bool:
            return sorted(await outputs(server), key=lambda each: each["k"]) == wanted

        await until(complete, what="a window of each key, from the instance that owns it")
        gone = await stage.ask("DELETE", "/pipeline-groups/g?wait=10")
        assert gone.status_code == 200, gone.text

        async def removed() -> bool:
            return await stream(server) is None

        await until(removed, what="its stream is removed with it")
    for node in stage.nodes.values():
        assert node._nats is not None and node._nats.stats.server_errors == 0


async def test_a_stream_that_an_earlier_group_left_behind_is_made_anew(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    async with operator(server) as jetstream:
        old = {"name": STREAM, "subjects": [*SUBJECTS.stream_subjects("g"), "$JS.API.none"]}
        await jetstream.api(f"STREAM.CREATE.{STREAM}", {**old, "subjects": old["subjects"][:2]})
    async with workers(server, tmp_path):
        made = await stage.ask("POST", "/pipeline-groups?wait=15", spec())
        assert made.status_code == 201, made.text
        present = await stream(server)
        assert present is not None and "varpulis_life" in present["metadata"]


async def test_who_is_late_with_an_earlier_life_leaves_the_stream_of_this_one_alone(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    async with workers(server, tmp_path):
        assert (await stage.ask("POST", "/pipeline-groups?wait=15", spec())).status_code == 201
        loop = stage.leader._loop
        assert loop is not None
        group, streams = loop._ledger.state.groups["g"], loop.deployment._streams
        assert streams is not None
        stored = await inject(stage, {"k": "a", "n": 1}, "key")
        await streams.remove("g", group.created_at - 1)
        with pytest.raises(WireError, match="later life"):
            await streams.ensure(replace(group, created_at=group.created_at - 1))
        assert (await inject(stage, {"k": "a", "n": 1}, "key"))["stored"] == stored["stored"]


async def test_what_a_stream_cannot_be_promised_for_is_refused_with_the_reason(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    bus = f'connector Bus = nats(servers: "{server.url}")\n'
    to = bus + 'stream Out = In.emit(k: k).to(Bus, topic: "out")'
    source = bus + 'stream Ins = In.from(Bus, topic: "in")\nstream Out = Ins.emit(k: k)'
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"pipeline": {"partition_key": None}}, "$.pipelines[0].partition_key"),
        ({"pipeline": {"checkpoint_secs": 0}}, "$.pipelines[0].checkpoint_secs"),
        ({"pipeline": {"source": to}}, ".to(Bus) may send an output twice"),
        ({"pipeline": {"source": source}}, "what .from(Bus) brings is in no stream"),
    ]
    for more, text in refusals:
        refused = await stage.ask("POST", "/pipeline-groups", spec(**more))
        assert refused.status_code == 400 and text in refused.text, refused.text
    async with workers(server, tmp_path):
        assert (await stage.ask("POST", "/pipeline-groups?wait=15", spec())).status_code == 201
        changes: list[tuple[dict[str, Any], str]] = [
            ({"delivery": "at_most_once"}, "a group keeps its delivery"),
            ({"pipeline": {"replicas": 3}}, "the number of its instances"),
        ]
        for more, text in changes:
            refused = await stage.ask("PUT", "/pipeline-groups/g", spec(**more))
            assert refused.status_code == 409 and text in refused.text, refused.text
        scaled = await stage.ask("POST", "/pipeline-groups/g/scale", {"pipeline": "p", "replicas": 3})
        assert scaled.status_code == 409 and "the number of its instances" in scaled.text, scaled.text


async def test_workers_that_share_no_checkpoints_are_not_given_such_a_pipeline_and_say_why(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    async with workers(server, tmp_path, checkpoint_store=""):
        made = await stage.ask("POST", "/pipeline-groups?wait=0", spec())
        assert made.status_code == 202, made.text

        async def told() -> bool:
            return "--checkpoint-store" in (await stage.ask("GET", "/pipeline-groups/g")).text

        await until(told, what="the reason")


async def test_another_version_goes_on_in_the_stream_where_the_old_one_was(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    async with workers(server, tmp_path):
        assert (await stage.ask("POST", "/pipeline-groups?wait=15", spec())).status_code == 201
        for number in range(2):
            await inject(stage, {"k": "a", "n": number}, f"before-{number}")
        changed = {"source": spec()["pipelines"][0]["source"].replace("n: n)", "n: n, v: 2)")}
        rolled = await stage.ask("PUT", "/pipeline-groups/g?wait=30", spec(pipeline=changed))
        assert rolled.status_code == 200, rolled.text
        for number in range(10, 13):
            await inject(stage, {"k": "a", "n": number}, f"after-{number}")

        async def complete() -> bool:
            return await outputs(server) == [{"k": "a", "n": 33, "v": 2}]

        await until(complete, what="a window of the new program, with its own events alone")
