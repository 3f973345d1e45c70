"""Signatures over a real nats-server: what a stranger on the bus sends moves nothing; keys change live."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

from coordinator.app import Coordinator
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import SeedWorker
from tests.unit.coordinator.three import NODES, Three, config, group, three
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.keyring import KeyRing, new_key
from transport.nats import Message, NatsTransport
from transport.signing import HEADER, WINDOW, Signatures, SignedFrames, SignedTransport
from worker.app import Worker, WorkerConfig

OLD, NEW = new_key("old"), new_key("new")


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsTransport]:
    transport = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,)))
    yield transport
    await transport.close()


def signatures(text: str = OLD, purpose: str = "test") -> Signatures:
    return Signatures(KeyRing(text=text), purpose)


class Heard:
    """Subscribes through a view and keeps what comes through it."""

    def __init__(self, view: SignedTransport | SignedFrames) -> None:
        self.view, self.got = view, list[bytes]()

    async def on(self, subject: str, *, listen: bool = False) -> "Heard":
        async def keep(message: Message) -> None:
            self.got.append(message.data)

        if listen:
            await self.view.listen(subject, lambda message: self.got.append(message.data))
        else:
            await self.view.subscribe(subject, keep)
        return self

    async def after(self, bus: NatsTransport, end: Any, subject: str) -> list[bytes]:
        """What came before `end`, published now, came."""
        await end.publish(subject, b"end")
        await until(lambda: b"end" in self.got, timeout=5, what="the last message")
        return [data for data in self.got if data != b"end"]


@pytest.mark.parametrize("kind", [SignedTransport, SignedFrames])
async def test_what_takes_the_quick_way_is_signed_and_checked_too_in_its_order(
    bus: NatsTransport, kind: Any
) -> None:
    """Many messages in one turn of the loop, handed over from the socket: plain frames by the shortcut, those
    with headers by nats-py."""
    ours = kind(bus, signatures())
    heard = await Heard(kind(bus, here := signatures())).on("t.q", listen=True)
    sent = [b"%d" % number * (1 + number % 7) for number in range(300)]
    for number, data in enumerate(sent):
        ours.send("t.q", data, reply="t.r" if number % 2 else "")
        if number % 50 == 0:
            bus.send("t.q", b"unsigned, and long enough to hold a signature that it does not hold")
    ours.push()
    assert await heard.after(bus, ours, "t.q") == sent
    assert sum(here.refused.values()) == 6


@pytest.mark.parametrize("kind", [SignedTransport, SignedFrames])
@pytest.mark.parametrize("listen", [False, True])
async def test_only_what_is_signed_for_this_purpose_is_heard(
    bus: NatsTransport, kind: Any, listen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ours, other, stranger = (
        kind(bus, signatures()),
        kind(bus, signatures(purpose="other")),
        kind(bus, signatures(NEW)),
    )
    heard = await Heard(kind(bus, here := signatures())).on("t.a", listen=listen)
    await bus.publish("t.a", b"unsigned")
    await bus.publish("t.a", b"unsigned, and long enough to hold a signature that it does not hold")
    await other.publish("t.a", b"of another purpose")
    await stranger.publish("t.a", b"of another key")
    await ours.publish("t.a", b"ours")
    await ours.publish("t.a", b"ours too", reply="t.reply")
    assert await heard.after(bus, ours, "t.a") == [b"ours", b"ours too"]
    assert sum(here.refused.values()) == 4
    assert here.refused["unknown_key"] + here.refused["wrong"] >= 2
    assert "dropped a message on t.a" in caplog.text


@pytest.mark.parametrize("kind", [SignedTransport, SignedFrames])
async def test_what_was_recorded_counts_on_no_other_subject_and_with_no_other_reply(
    bus: NatsTransport, kind: Any
) -> None:
    view = kind(bus, here := signatures())
    taken: list[Message] = []
    await bus.listen("t.rec", taken.append)
    await view.publish("t.rec", b"words", reply="t.back")
    await until(lambda: taken, timeout=5, what="the recording")
    (recorded,) = taken
    heard = await Heard(view).on("t.*")
    changed = bytes([recorded.data[0] ^ 1]) + recorded.data[1:]
    for subject, data, reply in [
        ("t.other", recorded.data, "t.back"),
        ("t.rec", recorded.data, "t.mine"),
        ("t.rec", recorded.data, ""),
        ("t.rec", changed, "t.back"),
    ]:
        await bus.publish(subject, data, reply=reply, headers=recorded.headers)
    assert await heard.after(bus, view, "t.rec") == []
    assert here.refused["wrong"] == 4


async def test_what_is_old_or_came_before_is_dropped(bus: NatsTransport) -> None:
    now = [1_000.0]
    ours = SignedTransport(bus, signatures(), clock=lambda: now[0])
    view = SignedTransport(bus, here := signatures(), once=True, clock=lambda: 1_000.0)
    taken: list[Message] = []
    await bus.listen("t.o", taken.append)
    heard = await Heard(view).on("t.o")
    await ours.publish("t.o", b"first")
    await until(lambda: taken, timeout=5, what="the first")
    await bus.publish("t.o", taken[0].data, headers=taken[0].headers)
    for now[0] in (1_000.0 - WINDOW - 1, 1_000.0 + WINDOW + 1):
        await ours.publish("t.o", b"of another time")
    now[0] = 1_000.0 - WINDOW + 1
    await ours.publish("t.o", b"late, but not too late")
    assert await heard.after(bus, ours, "t.o") == [b"first", b"late, but not too late"]
    assert here.refused == {"repeated": 1, "old": 2}


async def test_unsigned_messages_pass_where_that_is_said_and_wrong_ones_never(bus: NatsTransport) -> None:
    view = SignedTransport(bus, here := signatures(), unsigned=True)
    heard = await Heard(view).on("t.u")
    await bus.publish("t.u", b"seed")
    for header in (
        "",
        "x",
        "..",
        f"{'00' * 4}.1.{'00' * 16}",
        "zz.zz.zz",
        "-1.-1.-1",
        "a.b.c.d",
        f"00.{'f' * 900}.00",
    ):
        await bus.publish("t.u", b"forged", headers={HEADER: header})
    assert await heard.after(bus, view, "t.u") == [b"seed"]
    assert here.refused["wrong"] + here.refused["unknown_key"] == 8


async def test_requests_are_answered_and_a_forged_answer_is_none(bus: NatsTransport) -> None:
    view = SignedTransport(bus, signatures())

    async def honest(message: Message) -> None:
        await view.publish(message.reply, b"yes")

    async def forger(message: Message) -> None:
        await bus.publish(message.reply, b"yes")

    await view.subscribe("t.q", honest)
    await bus.subscribe("t.f", forger)
    assert await view.request("t.q", b"?", timeout=5) == b"yes"
    with pytest.raises(NatsTransportError, match="no right signature"):
        await view.request("t.f", b"?", timeout=5)
    with pytest.raises(NatsTransportError, match="nobody listens"):
        await view.request("t.nobody", b"?", timeout=5)
    assert bus.stats.requests == 3, "a view shares the connection's counters"


@pytest.mark.parametrize("kind", [SignedTransport, SignedFrames])
async def test_the_largest_message_it_promises_to_take_passes(bus: NatsTransport, kind: Any) -> None:
    view = kind(bus, signatures())
    heard = await Heard(view).on("t.large")
    largest = b"x" * view.max_payload
    await view.publish("t.large", largest)
    assert await heard.after(bus, view, "t.large") == [largest]


@pytest.mark.parametrize("kind", [SignedTransport, SignedFrames])
async def test_keys_change_one_side_at_a_time_without_a_lost_message(
    bus: NatsTransport, kind: Any, tmp_path: Path
) -> None:
    """Steps as in docs/security.md: accept the new one everywhere, sign with it everywhere, drop the old."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(OLD)
    rings = [KeyRing(path) for path in paths]
    views = [kind(bus, Signatures(ring, "test")) for ring in rings]
    heard = [await Heard(view).on(f"t.{name}") for name, view in zip("ab", views, strict=True)]
    sent = 0
    for text in (OLD + NEW, NEW + OLD, NEW):
        for path, ring in zip(paths, rings, strict=True):
            path.write_text(text)
            assert ring.refresh()
            await views[0].publish("t.b", b"%d" % sent)
            await views[1].publish("t.a", b"%d" % sent)
            sent += 1
            await until(
                lambda sent=sent: all(len(one.got) == sent for one in heard), timeout=5, what="both came"
            )
    assert not any(view.signatures.refused for view in views)


# -- the cluster


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Three]:
    (tmp_path / "cluster").write_text(OLD)
    async with three(nats_server.url, tmp_path, cluster_key_file=tmp_path / "cluster") as stage:
        yield stage


def refused(node: Coordinator) -> int:
    assert node._raft is not None
    frames = node._raft._bus
    assert isinstance(frames, SignedFrames)
    return sum(frames.signatures.refused.values())


async def running_worker(url: str, directory: Path, **more: Any) -> Worker:
    worker = Worker(
        WorkerConfig("w1", nats=NatsConfig(servers=(url,)), data_dir=directory / "w1", cpu_cores=1, **more)
    )
    await worker.start()
    return worker


async def test_a_cluster_with_a_key_deploys_and_a_stranger_commands_nobody(
    stage: Three, nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await running_worker(nats_server.url, tmp_path, cluster_key_file=tmp_path / "cluster")
    stranger = await nats.connect(nats_server.url)
    try:
        await until(lambda: worker.health()["ready"], timeout=15, what="the worker is a member")
        assert (await stage.ask("POST", "/pipeline-groups?wait=10", group())).status_code == 201
        pipeline_id = (await stage.placements())[0]["pipeline_id"]
        undeploy = json.dumps({"pipeline_id": pipeline_id}).encode()
        with pytest.raises(nats.errors.TimeoutError):
            await stranger.request("varpulis.cluster.cmd.w1.undeploy", undeploy, timeout=0.5)
        assert [copy.pipeline_id for copy in worker.health()["pipelines"]] == [pipeline_id]
        term = stage.leader._raft.term if stage.leader._raft else 0
        for node in NODES:
            for rpc in ("vote", "append", "propose", "prevote", "snapshot", "x"):
                await stranger.publish(f"varpulis.cluster.raft.{node}.{rpc}", b"\x95" + b"a" * 200)
        await stranger.flush()
        await until(
            lambda: all(refused(node) >= 6 for node in stage.nodes.values()),
            timeout=20,
            what="frames dropped",
        )
        await stage.has_leader()
        assert stage.leader._raft is not None
        assert term <= stage.leader._raft.term < term + 10, "at most an election of a busy machine"
        page = (await stage.http.get(stage.leader.url + "/metrics")).text
        assert "varpulis_cluster_signatures_refused_total{reason=" in page
        assert OLD.split()[1] not in caplog.text + page
    finally:
        await stranger.close()
        await worker.stop()


async def test_a_seed_worker_is_taken_in_only_where_that_is_said(
    stage: Three, nats_server: NatsServer
) -> None:
    seed = SeedWorker("seed", nats_server.url)
    seed._client = await nats.connect(nats_server.url)
    request = json.dumps(seed.registration()).encode()
    with pytest.raises(nats.errors.TimeoutError):
        await seed.client.request("varpulis.cluster.register", request, timeout=1)
    await seed.stop()
    for node_id in NODES:
        key = stage.nodes[node_id].config.cluster_key_file
        await stage.stop(node_id)
        await stage.start(node_id, cluster_key_file=key, allow_unsigned=True)
    await stage.has_leader()
    async with SeedWorker("seed", nats_server.url):
        answer = await stage.ask("POST", "/pipeline-groups?wait=10", group())
        assert answer.status_code == 201, answer.text


async def test_a_coordinator_without_the_key_is_heard_by_nobody(
    stage: Three, nats_server: NatsServer, tmp_path: Path
) -> None:
    follower = next(node_id for node_id, node in stage.nodes.items() if not node.is_leader)
    await stage.stop(follower)
    keyless = Coordinator(config(follower, nats_server.url, stage.directory))
    leader = stage.leader
    await keyless.start()
    try:
        before = refused(leader)
        await until(lambda: refused(leader) > before, timeout=10, what="its frames dropped")
        assert keyless._raft is not None and keyless._raft.leader_id is None and not keyless.is_leader
        await stage.has_leader()  # perhaps another than before, on a machine that is busy
    finally:
        await keyless.stop()


async def test_the_cluster_key_changes_while_writes_go_on(
    stage: Three, nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="transport.keyring")
    worker = await running_worker(nats_server.url, tmp_path, cluster_key_file=tmp_path / "cluster")
    try:
        await until(lambda: worker.health()["ready"], timeout=15, what="the worker is a member")
        for number, (text, signs) in enumerate([(OLD + NEW, "old"), (NEW + OLD, "new"), (NEW, "new")]):
            caplog.clear()
            (tmp_path / "cluster").write_text(text)
            told = f"key {signs} signs now"
            await until(
                lambda told=told: caplog.text.count(told) == 4, timeout=15, what="all four have taken it over"
            )
            answer = await stage.ask("POST", "/pipeline-groups?wait=10", group(f"g{number}"))
            assert answer.status_code == 201, answer.text
        assert not any(refused(node) for node in stage.nodes.values())
        assert worker.health()["lease_open"]
    finally:
        await worker.stop()


async def test_a_key_that_only_seals_signs_nothing_and_keeps_nobody_out(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "cluster").write_text(OLD)
    async with three(nats_server.url, tmp_path, cluster_key_file=tmp_path / "cluster", sign=False) as stage:
        raft = stage.leader._raft
        assert raft is not None and not isinstance(raft._bus, SignedFrames)
        async with SeedWorker("seed", nats_server.url):
            assert (await stage.ask("POST", "/pipeline-groups?wait=10", group())).status_code == 201
