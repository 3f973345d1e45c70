"""The permissions of deploy/nats on a real nats-server: each process does its work, and nothing else is let
through: every forbidden thing is tried.
"""

import asyncio
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from coordinator.app import Coordinator
from proto_schemas.rest.base import API_BASE
from tests.support.certificates import Authority
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, config, group
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import NatsTransport
from transport.nats_binary import nats_server_binary
from worker.app import Worker, WorkerConfig

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "nats"
P = "varpulis.cluster"
COORDINATORS = ("coordinator-0", "coordinator-1", "coordinator-2")


def password(user: str) -> str:
    return f"pw{user.replace('-', '')}"


def environment() -> dict[str, str]:
    """The variables that the files name, with the password of each user."""
    users = re.findall(r"user: ([a-z0-9-]+), password: \$(\w+)", (DEPLOY / "users.conf").read_text())
    assert len(users) >= 8
    return {variable: password(user) for user, variable in users}


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    text = (DEPLOY / "limits.conf").read_text() + (DEPLOY / "users.conf").read_text()
    for variable, value in environment().items():
        text = re.sub(rf"\${variable}\b", value, text)
    with NatsServer(jetstream=True, extra=text) as server:
        yield server


class Intruder:
    """A user on raw nats-py, and what the server refuses it."""

    def __init__(self, server: NatsServer, user: str) -> None:
        self.server, self.user, self.errors = server, user, list[str]()

    async def __aenter__(self) -> "Intruder":
        async def note(error: Exception) -> None:
            self.errors.append(str(error).lower())

        self.client: Client = await nats.connect(
            self.server.url,
            user=self.user,
            password=password(self.user),
            error_cb=note,
            inbox_prefix=f"_INBOX.{self.user}",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def refused(self, what: str, subject: str) -> bool:
        """Whether publishing to a subject, or subscribing it, is refused."""
        self.errors.clear()
        if what == "publish":
            await self.client.publish(subject, b"x")
        else:
            subscription = await self.client.subscribe(subject)
        for _ in range(2):  # nats-py's first PING may overtake what waits to be sent
            await self.client.flush()
            await asyncio.sleep(0)
        violations = [text for text in self.errors if "permissions violation" in text]
        if what == "subscribe" and not violations:
            await subscription.unsubscribe()
        return bool(violations)


FORBIDDEN = {
    "worker-0": [
        ("publish", f"{P}.heartbeat.worker-1"),
        ("publish", f"{P}.relay.worker-1"),
        ("subscribe", f"{P}.relay.>"),
        ("publish", f"{P}.raft.coordinator-0.append"),
        ("publish", f"{P}.cmd.worker-1.deploy"),
        ("publish", f"{P}.cmd.worker-1.hello"),
        ("publish", f"{P}.cmd.worker-0.deploy"),
        ("publish", "_INBOX.worker-1.anything"),
        ("publish", "_INBOX.operator.anything"),
        ("publish", "$SYS.REQ.SERVER.PING"),
        ("publish", "$JS.API.INFO"),
        ("publish", "$JS.API.STREAM.LIST"),
        ("publish", "$JS.API.STREAM.CREATE.OBJ_varpulis-checkpoints"),
        ("publish", "$JS.API.STREAM.UPDATE.OBJ_varpulis-checkpoints"),
        ("publish", "$JS.API.STREAM.DELETE.OBJ_varpulis-checkpoints"),
        ("publish", "$JS.API.STREAM.CREATE.EVENTS"),
        ("publish", "$JS.API.STREAM.UPDATE.EVENTS"),
        ("publish", "$JS.API.STREAM.DELETE.EVENTS"),
        ("publish", "$JS.API.STREAM.PURGE.EVENTS"),
        ("publish", "$JS.API.STREAM.MSG.DELETE.EVENTS"),
        ("publish", "$JS.API.STREAM.MSG.GET.OTHER"),
        ("publish", "$JS.API.DIRECT.GET.EVENTS"),
        ("publish", "$JS.API.CONSUMER.CREATE.EVENTS"),
        ("publish", "$JS.API.CONSUMER.CREATE.EVENTS.c.events.x"),
        ("publish", "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.c"),
        ("publish", "$JS.API.CONSUMER.DELETE.EVENTS.c"),
        ("publish", "$JS.API.CONSUMER.CREATE.OBJ_varpulis-checkpoints.c"),
        ("publish", "$JS.API.CONSUMER.MSG.NEXT.OTHER.c"),
        ("publish", "$JS.ACK.OTHER.c.1.1.1.1.0"),
        ("publish", "$O.other.C.x"),
        ("publish", "$KV.bucket.x"),
        ("subscribe", "$O.varpulis-checkpoints.>"),
        ("subscribe", "$JS.>"),
        ("subscribe", f"{P}.cmd.worker-1.>"),
        ("subscribe", f"{P}.cmd.>"),
        ("subscribe", f"{P}.cmd.*.deploy"),
        ("subscribe", f"{P}.raft.>"),
        ("subscribe", f"{P}.raft.coordinator-0.*"),
        ("subscribe", f"{P}.register"),
        ("subscribe", f"{P}.heartbeat.>"),
        ("subscribe", f"{P}.heartbeat.worker-1"),
        ("subscribe", "_INBOX.>"),
        ("subscribe", "_INBOX.coordinator-0.>"),
        ("subscribe", "_INBOX.worker-1.>"),
        ("subscribe", ">"),
        ("subscribe", "$SYS.>"),
    ],
    "coordinator-0": [
        ("publish", f"{P}.heartbeat.worker-0"),
        ("publish", f"{P}.register"),
        ("publish", f"{P}.pipeline.g._external.p"),
        ("publish", "$JS.API.INFO"),
        ("publish", "$JS.API.STREAM.MSG.GET.OBJ_varpulis-checkpoints"),
        ("publish", "$O.varpulis-checkpoints.C.x"),
        ("subscribe", f"{P}.raft.coordinator-1.>"),
        ("subscribe", f"{P}.raft.>"),
        ("subscribe", f"{P}.cmd.>"),
        ("subscribe", f"{P}.pipeline.>"),
        ("subscribe", "_INBOX.>"),
        ("subscribe", "_INBOX.coordinator-1.>"),
        ("subscribe", ">"),
    ],
    "client": [
        ("publish", f"{P}.relay.worker-0"),
        ("publish", f"{P}.pipeline.g.p.q"),
        ("publish", f"{P}.cmd.worker-0.inject"),
        ("publish", f"{P}.register"),
        ("publish", f"{P}.heartbeat.worker-0"),
        ("publish", f"{P}.raft.coordinator-0.vote"),
        ("publish", "events.x"),
        ("subscribe", f"{P}.pipeline.>"),
        ("subscribe", f"{P}.heartbeat.>"),
        ("subscribe", "_INBOX.>"),
        ("subscribe", ">"),
    ],
    "operator": [
        ("publish", f"{P}.cmd.worker-0.deploy"),
        ("publish", f"{P}.register"),
        ("publish", f"{P}.raft.coordinator-0.vote"),
        ("publish", "events.x"),
        ("publish", "$O.varpulis-checkpoints.C.x"),
        ("publish", "$SYS.REQ.SERVER.PING"),
        ("subscribe", f"{P}.>"),
        ("subscribe", "_INBOX.>"),
    ],
    "observer": [
        ("publish", f"{P}.pipeline.g._external.p"),
        ("publish", f"{P}.heartbeat.worker-0"),
        ("publish", f"{P}.raft.coordinator-0.vote"),
        ("publish", f"{P}.cmd.worker-0.deploy"),
        ("publish", "anything"),
        ("subscribe", f"{P}.cmd.>"),
        ("subscribe", f"{P}.raft.>"),
        ("subscribe", f"{P}.register"),
        ("subscribe", "_INBOX.>"),
        ("subscribe", ">"),
    ],
}
ALLOWED = {
    "worker-0": [
        ("publish", f"{P}.register"),
        ("publish", f"{P}.heartbeat.worker-0"),
        ("publish", f"{P}.pipeline.g.p.q"),
        ("publish", "events.doors"),
        ("subscribe", f"{P}.cmd.worker-0.>"),
        ("subscribe", f"{P}.heartbeat.worker-0"),
        ("subscribe", f"{P}.pipeline.g.*.p"),
        ("subscribe", "_INBOX.worker-0.abc.*"),
        ("subscribe", "events.doors"),
    ],
    "coordinator-0": [
        ("publish", f"{P}.raft.coordinator-1.append"),
        ("publish", f"{P}.cmd.worker-0.deploy"),
        ("publish", f"{P}.relay.worker-0"),
        ("subscribe", f"{P}.relay.>"),
        ("publish", "_INBOX.worker-0.abc.1"),
        ("subscribe", f"{P}.raft.coordinator-0.*"),
        ("subscribe", f"{P}.heartbeat.>"),
        ("subscribe", f"{P}.register"),
        ("subscribe", "_INBOX.coordinator-0.abc.*.*"),
    ],
    "client": [("publish", f"{P}.pipeline.g._external.p"), ("subscribe", "_INBOX.client.abc.*")],
    "observer": [
        ("subscribe", f"{P}.heartbeat.>"),
        ("subscribe", f"{P}.pipeline.>"),
        ("subscribe", "events.>"),
    ],
}


def cases(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(user, what, subject) for user, tries in table.items() for what, subject in tries]


@pytest.mark.parametrize(("user", "what", "subject"), cases(FORBIDDEN))
async def test_forbidden(server: NatsServer, user: str, what: str, subject: str) -> None:
    async with Intruder(server, user) as intruder:
        assert await intruder.refused(what, subject)


@pytest.mark.parametrize(("user", "what", "subject"), cases(ALLOWED))
async def test_allowed(server: NatsServer, user: str, what: str, subject: str) -> None:
    async with Intruder(server, user) as intruder:
        assert not await intruder.refused(what, subject), intruder.errors


async def test_nobody_comes_in_without_a_password_or_with_that_of_another(server: NatsServer) -> None:
    given: tuple[dict[str, Any], ...] = (
        {},
        {"user": "worker-0", "password": password("worker-1")},
        {"user": "x", "password": "y"},
    )
    for login in given:
        with pytest.raises(NatsTransportError) as caught:
            await NatsTransport.connect(NatsConfig(servers=(server.url,), **login))
        assert caught.value.kind is ErrorKind.UNAUTHORIZED


async def test_a_worker_answers_a_coordinator_and_a_new_process_of_its_own_id(server: NatsServer) -> None:
    async with Intruder(server, "worker-0") as worker:
        asked = await worker.client.subscribe(f"{P}.cmd.worker-0.>")
        await worker.client.flush()
        for who, command in (("coordinator-0", "drain"), ("coordinator-2", "deploy"), ("worker-0", "hello")):
            async with Intruder(server, who) as asking:
                answers = await asking.client.subscribe(f"_INBOX.{who}.reply")
                await asking.client.flush()
                await asking.client.publish(f"{P}.cmd.worker-0.{command}", reply=f"_INBOX.{who}.reply")
                message = await asked.next_msg(5)
                assert not await worker.refused("publish", message.reply)
                assert (await answers.next_msg(5)).data == b"x"


async def test_no_reply_subject_of_its_own_choice_takes_a_worker_where_it_may_not_publish(
    server: NatsServer,
) -> None:
    """What a server allows as a response it allows to any reply subject, also that of one's own message."""
    targets = [f"{P}.heartbeat.worker-1", f"{P}.cmd.worker-1.drain", f"{P}.raft.coordinator-0.vote"]
    async with Intruder(server, "worker-0") as worker:
        heard = await worker.client.subscribe(f"{P}.pipeline.>")
        commands = await worker.client.subscribe(f"{P}.cmd.worker-0.>")
        await worker.client.flush()
        for target in targets:
            await worker.client.publish(f"{P}.pipeline.g.a.b", b"x", reply=target)
            await worker.client.publish(f"{P}.cmd.worker-0.hello", b"x", reply=target)
            assert (await heard.next_msg(5)).reply == (await commands.next_msg(5)).reply == target
            assert await worker.refused("publish", target), target


async def jetstream(by: Intruder, verb: str, query: Any = None) -> dict[str, Any]:
    """What JetStream's API answers; an error of it fails the test."""
    data = json.dumps(query).encode() if query is not None else b""
    answer: dict[str, Any] = json.loads((await by.client.request(f"$JS.API.{verb}", data, timeout=5)).data)
    assert "error" not in answer, answer
    return answer


@pytest.fixture
async def streams(server: NatsServer) -> None:
    """What an operator makes beforehand: the bucket, a stream of events and a consumer of it."""
    bucket = {"subjects": ["$O.varpulis-checkpoints.>"], "allow_rollup_hdrs": True, "discard": "new"}
    async with Intruder(server, "operator") as operator:
        for name, config in (("OBJ_varpulis-checkpoints", bucket), ("EVENTS", {"subjects": ["events.>"]})):
            await jetstream(operator, f"STREAM.CREATE.{name}", {"name": name, "storage": "memory", **config})
        durable = {"durable_name": "p", "ack_policy": "explicit", "filter_subject": "events.in.>"}
        consumer = {"stream_name": "EVENTS", "config": durable}
        await jetstream(operator, "CONSUMER.DURABLE.CREATE.EVENTS.p", consumer)


async def test_a_worker_keeps_its_checkpoints_in_the_bucket_and_takes_events_from_a_stream(
    server: NatsServer, streams: None
) -> None:
    bucket = "OBJ_varpulis-checkpoints"
    async with Intruder(server, "worker-0") as worker:
        chunk = "$O.varpulis-checkpoints.C.g.p.1-1"
        kept = json.loads((await worker.client.request(chunk, b"state", timeout=5)).data)
        found = await jetstream(worker, f"STREAM.MSG.GET.{bucket}", {"seq": kept["seq"]})
        assert found["message"]["subject"] == chunk
        only_new = {"Nats-Rollup": "sub", "Nats-Expected-Last-Subject-Sequence": "0"}
        description = "$O.varpulis-checkpoints.M.Zy9w"
        once = await worker.client.request(description, b"{}", timeout=5, headers=only_new)
        assert "error" not in json.loads(once.data)
        info = await jetstream(worker, f"STREAM.INFO.{bucket}", {"subjects_filter": "$O.*.C.>"})
        assert list(info["state"]["subjects"]) == [chunk]
        assert (await jetstream(worker, f"STREAM.PURGE.{bucket}", {"filter": chunk}))["purged"] == 1
        await worker.client.request("events.in.doors", b"one", timeout=5)
        pulled = await worker.client.subscribe("_INBOX.worker-0.pulled")
        await worker.client.publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.p", b"1", reply=pulled.subject)
        event = await pulled.next_msg(5)
        assert (event.subject, event.data) == ("events.in.doors", b"one")
        await worker.client.request(event.reply, b"+ACK", timeout=5)
        assert (await jetstream(worker, "CONSUMER.INFO.EVENTS.p"))["num_ack_pending"] == 0
        assert (await jetstream(worker, "STREAM.INFO.EVENTS"))["state"]["messages"] == 1
        assert not [text for text in worker.errors if "permissions violation" in text]


async def test_no_service_can_be_made_to_command_another_worker_or_to_speak_for_it(
    stage: Three, server: NatsServer, streams: None, tmp_path: Path
) -> None:
    """JetStream and coordinators may publish where who asks them may not, and he names the reply subject."""
    login = nats_config(server, "worker-1")
    worker = Worker(WorkerConfig("worker-1", nats=login, data_dir=tmp_path / "1"))
    await worker.start()
    try:
        await until(lambda: worker.health()["ready"], timeout=15, what="worker-1 is a member")
        drain, beat = f"{P}.cmd.worker-1.drain", f"{P}.heartbeat.worker-1"
        async with Intruder(server, "worker-0") as intruder, Intruder(server, "observer") as observer:
            heard = await observer.client.subscribe("events.forged.>")
            await observer.client.flush()
            forged = json.dumps({"events_processed": 7_777, "pipelines_running": 0, "seq": 10**9})
            await intruder.client.request("events.in.worker-1", forged.encode(), timeout=5)
            kept = await intruder.client.request("events.in.worker-1", forged.encode(), timeout=5)
            asked = json.dumps({"seq": json.loads(kept.data)["seq"]}).encode()
            capacity = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 1}
            joins = {"worker_id": "worker-0", "address": "x", "api_key": "", "capacity": capacity}
            for subject, data, reply in [
                ("$JS.API.STREAM.MSG.GET.EVENTS", asked, drain),
                ("$JS.API.CONSUMER.MSG.NEXT.EVENTS.p", b"1", beat),
                ("$JS.API.CONSUMER.MSG.NEXT.EVENTS.p", b"1", drain),
                (f"{P}.register", json.dumps(joins).encode(), drain),
                (f"{P}.register", b"{", drain),
                (f"{P}.heartbeat.worker-0", forged.encode(), drain),
            ]:
                await intruder.client.publish(subject, data, reply=reply)
            await intruder.client.publish("events.forged.done", b"")
            await intruder.client.flush()
            await heard.next_msg(5)

        def counted() -> bool:
            listeners = [node._listener for node in stage.nodes.values()]
            bad = sum((each.bad_messages for each in listeners if each is not None), Counter())
            return bad["reply", "not_an_inbox"] >= 3 and bad["heartbeat", "bad_subject"] >= 3

        await until(counted, timeout=5, what="all were refused")
        assert not worker.host.draining
        listener = stage.leader._listener
        assert listener is not None
        last = listener._table.get("worker-1")
        assert last is not None and last.events_processed != 7_777
    finally:
        await worker.stop()


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
        await stage.http.aclose()
        await asyncio.gather(*(stage.stop(node_id) for node_id in list(stage.nodes)))


def nats_config(server: NatsServer, user: str) -> NatsConfig:
    return NatsConfig(servers=(server.url,), user=user, password=password(user), name=user)


async def test_a_whole_cluster_does_its_work_within_these_permissions(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    """Registration, heartbeats with answers, deploys, events from outside through two pipelines, teardown."""
    said_before = len(server.log)
    workers = [
        Worker(
            WorkerConfig(f"worker-{n}", nats=nats_config(server, f"worker-{n}"), data_dir=tmp_path / str(n))
        )
        for n in range(2)
    ]
    await asyncio.gather(*(worker.start() for worker in workers))
    client = await NatsTransport.connect(nats_config(server, "client"))
    observer = await NatsTransport.connect(nats_config(server, "observer"))
    try:
        await until(
            lambda: all(worker.health()["ready"] and worker.health()["lease_open"] for worker in workers),
            timeout=15,
            what="both workers are members with a lease",
        )
        routes = [
            {"from_pipeline": "_external", "to_pipeline": "p", "event_types": ["In"]},
            {"from_pipeline": "p", "to_pipeline": "q", "event_types": ["Out"]},
        ]
        spec = group("g", "p", "q", routes=routes)
        spec["pipelines"][1]["source"] = "stream Last = Out.where(x > 0).emit(x: x)"
        made = await stage.ask("POST", "/pipeline-groups?wait=15", spec)
        assert made.status_code == 201, made.text
        heard: list[bytes] = []
        await observer.listen(f"{P}.pipeline.>", lambda message: heard.append(message.data))
        await observer.flush()
        await client.publish(f"{P}.pipeline.g._external.p", b'{"event_type":"In","fields":{"x":7}}')
        await until(lambda: len(heard) == 2, timeout=10, what="the event and what became of it")
        injected = await stage.ask(
            "POST", "/pipeline-groups/g/inject", {"event_type": "In", "fields": {"x": 3}}
        )
        assert injected.status_code == 200, injected.text
        gone = await stage.http.delete(f"{stage.leader.url}{API_BASE}/pipeline-groups/g?wait=10")
        assert gone.status_code == 200
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.gather(client.close(), observer.close())
    assert "Violation" not in server.log[said_before:]
    async with Intruder(server, "client") as intruder:
        assert await intruder.refused("publish", "events.x")
    assert "Violation" in server.log[said_before:], "it would have been seen there"
    for node in stage.nodes.values():
        assert node._nats is not None and node._nats.stats.server_errors == 0


async def test_a_worker_cannot_take_another_ones_id_though_both_register_on_one_subject(
    stage: Three, server: NatsServer, tmp_path: Path
) -> None:
    """Whoever is to be taken in under an id that is held must hear its commands, and only its owner does."""
    login = nats_config(server, "worker-1")
    worker = Worker(WorkerConfig("worker-1", nats=login, data_dir=tmp_path / "1"))
    await worker.start()
    try:
        await until(lambda: worker.health()["ready"], timeout=15, what="worker-1 is a member")
        loop = stage.leader._loop
        assert loop is not None
        state = loop._ledger.state
        known = state.workers["worker-1"]
        capacity = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 1}
        stolen = {"worker_id": "worker-1", "address": "x", "api_key": "", "capacity": capacity}
        async with Intruder(server, "worker-0") as intruder:
            for incarnation in ("fffffffffffe", known.incarnation, None):
                data = json.dumps({**stolen, "incarnation": incarnation}).encode()
                refusal: dict[str, Any] = {"code": "unavailable"}
                while refusal.get("code") == "unavailable":  # one that lags behind may not know of it yet
                    answer = await intruder.client.request(f"{P}.register", data, timeout=5)
                    refusal = json.loads(answer.data)
                assert refusal["code"] == "forbidden" and known.incarnation in refusal["error"]
            worker._membership._register_now.set()  # as after a lost connection: the owner may, at any time
            await until(lambda: state.workers["worker-1"] is not known, timeout=10, what="it came again")
        again = state.workers["worker-1"]
        assert (again.session, again.incarnation) == (known.session, known.incarnation)
        assert again.address == known.address
    finally:
        await worker.stop()


@pytest.mark.parametrize("name", sorted(path.name for path in DEPLOY.glob("*.conf")))
def test_nats_server_takes_the_file(name: str, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    pair = ca.issue("server", client=True, server=True)
    files = {
        "VARPULIS_NATS_TLS_CERT": str(pair.cert),
        "VARPULIS_NATS_TLS_KEY": str(pair.key),
        "VARPULIS_NATS_TLS_CA": str(ca.cert),
        "VARPULIS_NATS_NAME": "nats-0",
        "VARPULIS_NATS_STORE": str(tmp_path / "store"),
        **{f"VARPULIS_NATS_{name}": "secret" for name in ("PASSWORD", "TOKEN", "SHOP")},
    }
    done = subprocess.run(
        [nats_server_binary(), "-t", "-c", DEPLOY / name],
        env={"PATH": os.environ["PATH"], **environment(), **files},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stderr + done.stdout


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.glob("*.conf"):
        for line in path.read_text().split("\n"):
            for value in re.findall(
                r"(?:password|token|nkey|key_file|seed): ?([^ ,}]+)", line.partition("#")[0]
            ):
                assert value.startswith("$"), f"{path.name}: {line}"
