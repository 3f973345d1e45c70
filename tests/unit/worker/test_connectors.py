"""Connectors: what they bring, what they send, what they say about themselves; and no secret ever."""

import asyncio
import json
import logging
import re
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proto_schemas.connectors import Param, check_connector
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from tests.unit.worker.support import bare_client, collect
from transport.nats import Message
from vpl import ConnectorDecl, SinkBinding, SourceBinding
from worker import connectors as connectors_room
from worker.connectors.base import ConnectorError, OutputDropped
from worker.connectors.console import LineSink
from worker.connectors.memory import TOPICS
from worker.connectors.nats import covers
from worker.connectors.registry import TYPES, ConnectorRegistry, find_types
from worker.connectors.writer import LINES, MOST_LINES, LineWriter

GUIDE = Path(__file__).parents[3].joinpath("docs", "connectors.md").read_text(encoding="utf-8")
SECRET = "hunter2"


def registry(kind: str = "nats", **params: Any) -> ConnectorRegistry:
    return ConnectorRegistry.from_configs({"Bus": ConnectorDecl(name="Bus", type=kind, params=params)})


def source(**params: Any) -> SourceBinding:
    return SourceBinding(connector="Bus", event_type="Door", params=params)


def sink(stream: str = "Out", **params: Any) -> SinkBinding:
    return SinkBinding(connector="Bus", stream=stream, params=params, kind="to")


class Heard:
    def __init__(self) -> None:
        self.data: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        self.data.append(message.data)


async def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConnectorError, match="'kafka': use one of console, file, memory, nats"):
        registry("kafka")


async def test_the_type_that_the_documents_write_is_found_by_its_file_alone_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"^```python connector=udp\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / "udp.py").write_text(example)
    monkeypatch.setattr(connectors_room, "__path__", [*connectors_room.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "worker.connectors.udp", raising=False)
    monkeypatch.setitem(TYPES, "udp", find_types()["udp"])
    (known,) = re.findall(r'^"udp": (\{.*\}),$', GUIDE, re.MULTILINE)
    monkeypatch.setattr("proto_schemas.connectors.TYPES", {"udp": eval(known, {"Param": Param})})  # noqa: S307 - our document
    check_connector("Stats", "udp", {"host": "localhost", "port": 8125})
    with pytest.raises(ValueError, match="whole number"):
        check_connector("Stats", "udp", {"port": "8125"})
    with pytest.raises(ConnectorError, match="port"):
        registry("udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        connectors = registry("udp", port=receiver.getsockname()[1])
        assert not connectors.health_reports()[0].connected
        out = await connectors.create_sink(sink())
        await out.send("Out", {"n": 1}, 5)
        async with asyncio.timeout(5):
            data = await asyncio.get_running_loop().sock_recv(receiver, 1000)
        assert json.loads(data) == {"event_type": "Out", "timestamp": 5, "n": 1}
        assert connectors.health_reports()[0].connected
        with pytest.raises(OutputDropped, match="too_large"):
            await out.send("Out", {"n": "x" * 70_000}, 5)
        await connectors.shutdown(1)
    monkeypatch.delitem(sys.modules, "worker.connectors.udp")


async def test_a_connector_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ConnectorError, match="not declared"):
        await ConnectorRegistry({}).create_sink(sink())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"servers": "nats://a:1", "url": "nats://b:2"}, "contradict"),
        ({"server": "http://a:1"}, "unknown scheme"),
        ({"servers": 5}, "give text"),
        ({"user": "u"}, "user is given without password"),
        ({"password": SECRET}, "password is given without user"),
        ({"user": "u", "password": SECRET, "token": SECRET}, "contradict"),
        ({"sevrers": "nats://a:1"}, "did you mean servers"),
        ({"queue_group": 5}, "queue_group"),
        ({"url": f"nats://u:{SECRET}@ho st:1"}, "no server URL"),
    ],
)
async def test_wrong_parameters_are_refused_without_showing_a_secret(
    params: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConnectorError, match=text) as refused:
        registry(**params)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("topic", [None, 5, "", "a b", "a..b", "a.>.b", ">a", "a*"])
async def test_a_source_topic_that_is_no_subject_is_refused(topic: Any) -> None:
    with pytest.raises(ConnectorError, match="topic"):
        await registry().start_source(source(topic=topic), Heard())


@pytest.mark.parametrize(
    "params", [{"topic": "a b"}, {"topic": "a.*"}, {"topic": 5}, {"format": "xml"}, {"tpoic": "a"}]
)
async def test_a_sink_that_could_never_send_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ConnectorError):
        await registry().create_sink(sink(**params))


@pytest.mark.parametrize("key", ["servers", "url", "server"])
async def test_events_come_in_and_go_out_over_one_client(nats_server: NatsServer, key: str) -> None:
    connectors = registry(**{key: nats_server.url})
    heard = Heard()
    await connectors.start_source(source(topic="hq.doors.>"), heard)
    await connectors.start_source(source(topic="hq.doors.>"), heard)
    out = await connectors.create_sink(sink(topic="alerts"))
    async with bare_client(nats_server) as client:
        alerts = await collect(client, "alerts")
        await client.publish("hq.doors.a.b", b"{}")
        await until(lambda: heard.data, what="the event")
        await out.send("Out", {"n": 2**64}, 5)
        await until(lambda: alerts.messages, what="the alert")
    assert heard.data == [b"{}"]
    assert alerts.messages == [{"event_type": "Out", "timestamp": 5, "fields": {"n": 2**64}}]
    (health,) = connectors.health_reports()
    assert (health.connector_name, health.connector_type, health.connected) == ("Bus", "nats", True)
    assert health.messages_received == 1 and health.last_error is None
    await connectors.shutdown(1)
    assert not connectors.health_reports()[0].connected


@pytest.mark.parametrize("topics", [("a.>", "a.b"), ("a.b", "a.>"), ("a.*", "a.b", "a.>"), ("a.b", "a.b")])
async def test_an_event_comes_once_although_the_topics_of_two_streams_overlap(
    nats_server: NatsServer, topics: tuple[str, ...]
) -> None:
    connectors, heard = registry(servers=nats_server.url), Heard()
    for topic in topics:
        await connectors.start_source(source(topic=topic), heard)
    async with bare_client(nats_server) as client:
        await client.publish("a.b", b"{}")
        await client.publish("a.b", b"[]")
        await until(lambda: b"[]" in heard.data, what="the second event")
    assert heard.data == [b"{}", b"[]"]
    await connectors.shutdown(1)


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        (">", "a", True),
        (">", "a.>", True),
        ("a.>", "a", False),
        ("a.>", "a.>", True),
        ("a.*", "a.>", False),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("*.b", "a.b", True),
        ("*.>", "a.b.c", True),
        ("a.>", "b.c", False),
        ("a.b.>", "a.>", False),
    ],
)
def test_one_subject_covers_another(pattern: str, subject: str, covered: bool) -> None:
    assert covers(pattern, subject) is covered


async def test_a_flat_sink_puts_fields_beside_type_and_time_which_win(nats_server: NatsServer) -> None:
    connectors = registry(servers=nats_server.url)
    out = await connectors.create_sink(sink(topic="t", format="flat"))
    async with bare_client(nats_server) as client:
        heard = await collect(client, "t")
        await out.send("Out", {"n": 1, "event_type": "x", "timestamp": 0}, 5)
        await until(lambda: heard.messages, what="the output")
    assert heard.messages == [{"event_type": "Out", "timestamp": 5, "n": 1}]
    await connectors.shutdown(1)


async def test_a_sink_without_topic_sends_on_the_name_of_its_stream(nats_server: NatsServer) -> None:
    connectors = registry(servers=nats_server.url)
    out = await connectors.create_sink(sink("Alerts"))
    async with bare_client(nats_server) as client:
        heard = await collect(client, "Alerts")
        await out.send("Alerts", {}, 5)
        await until(lambda: heard.messages, what="the output")
    await connectors.shutdown(1)


async def test_a_topic_may_hold_fields_and_one_that_breaks_out_is_dropped(nats_server: NatsServer) -> None:
    connectors = registry(servers=nats_server.url)
    out = await connectors.create_sink(sink(topic="site.{site}.{n}"))
    async with bare_client(nats_server) as client:
        heard = await collect(client, "site.>")
        for site in ("a.b", "*", ">", "a b", "", None, True, 1.5, ["x"], "a\r\nPUB x", "\0"):
            with pytest.raises(OutputDropped) as dropped:
                await out.send("Out", {"site": site, "n": 1}, 5)
            assert dropped.value.reason == "bad_topic"
        with pytest.raises(OutputDropped):
            await out.send("Out", {"site": "a"}, 5)
        await out.send("Out", {"site": "hq", "n": 7}, 5)
        await until(lambda: heard.messages, what="the good output")
    assert len(heard.messages) == 1
    await connectors.shutdown(1)


async def test_of_a_queue_group_one_gets_each_message(nats_server: NatsServer) -> None:
    both = [registry(servers=nats_server.url, queue_group="cell") for _ in range(2)]
    heard = [Heard(), Heard()]
    for connectors, each in zip(both, heard, strict=True):
        await connectors.start_source(source(topic="q"), each)
    async with bare_client(nats_server) as client:
        for _ in range(100):
            await client.publish("q", b"{}")
        await client.flush()
        await until(lambda: sum(len(each.data) for each in heard) >= 100, what="all messages")
    assert sum(len(each.data) for each in heard) == 100
    for connectors in both:
        await connectors.shutdown(1)


async def test_without_a_server_the_set_up_fails_in_bounded_time_with_the_cause() -> None:
    port = free_port()
    with pytest.raises(ConnectorError, match=f"127.0.0.1:{port}") as refused:
        async with asyncio.timeout(5):
            await registry(servers=f"nats://127.0.0.1:{port}").create_sink(sink())
    assert refused.value.retryable


async def test_while_the_server_is_away_outputs_are_dropped_and_health_says_so(
    nats_server: NatsServer,
) -> None:
    connectors = registry(servers=nats_server.url)
    out = await connectors.create_sink(sink(topic="t"))
    nats_server.kill()
    await until(lambda: not connectors.health_reports()[0].connected, what="the loss")
    with pytest.raises(OutputDropped) as dropped:
        await out.send("Out", {}, 5)
    assert dropped.value.reason == "disconnected"
    assert "not connected" in (connectors.health_reports()[0].last_error or "")
    nats_server.restart()
    await until(lambda: connectors.health_reports()[0].connected, what="the return")
    await out.send("Out", {}, 5)
    await connectors.shutdown(1)


async def test_a_refused_password_is_an_error_that_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(user="u", password="right") as server:
        connectors = registry(servers=server.url, user="u", password=SECRET)
        with pytest.raises(ConnectorError) as refused:
            await connectors.create_sink(sink())
    shown = f"{refused.value} {connectors.health_reports()} {caplog.text}"
    assert SECRET not in shown and "refuses us" in shown


async def test_a_secret_may_come_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    monkeypatch.setenv("BUS_USER", "u")
    with NatsServer(user="u", password=SECRET) as server:
        connectors = registry(
            servers=server.url, user="env:BUS_USER", password=f"file:{tmp_path / 'password'}"
        )
        await connectors.create_sink(sink())
        assert connectors.health_reports()[0].connected
        await connectors.shutdown(1)


async def test_memory_topics_connect_a_sink_with_a_source() -> None:
    connectors = registry("memory")
    heard = Heard()
    await connectors.start_source(source(topic="mem.test"), heard)
    out = await connectors.create_sink(sink(topic="mem.test"))
    await out.send("Out", {"n": 1}, 5)
    assert [json.loads(data)["fields"] for data in heard.data] == [{"n": 1}]
    assert connectors.health_reports()[0].messages_received == 1
    await connectors.stop_sources()
    await out.send("Out", {"n": 2}, 5)
    assert len(heard.data) == 1
    assert len(TOPICS["mem.test"].outputs) == 2


async def test_a_console_prints_one_line_of_json_and_brings_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    connectors = registry("console")
    await (await connectors.create_sink(sink())).send("Out", {"n": 1}, 5)
    await connectors.flush(5.0)
    assert json.loads(capsys.readouterr().out) == {"event_type": "Out", "timestamp": 5, "fields": {"n": 1}}
    with pytest.raises(ConnectorError, match="brings no events"):
        await connectors.start_source(source(topic="x"), Heard())


async def test_a_log_sink_writes_to_the_log_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "varpulis.output")
    binding = SinkBinding(connector=None, stream="Out", params={"level": "error"}, kind="log")
    await (await ConnectorRegistry({}).create_sink(binding)).send("Out", {"n": 1}, 5)
    await LINES.flush(5.0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and '"fields":{"n":1}' in record.message


async def test_an_output_that_nobody_reads_blocks_nothing_and_what_is_too_much_is_dropped() -> None:
    lines, may_write = LineWriter(), threading.Event()
    written: list[str] = []

    def write(line: str) -> None:
        assert may_write.wait(30)
        written.append(line)

    out = LineSink(write, lines)
    reasons: Counter[str] = Counter()
    for number in range(MOST_LINES + 500):
        try:
            await out.send("Out", {"n": number}, 5)
        except OutputDropped as error:
            reasons[error.reason] += 1
    assert reasons["congested"] >= 499  # one may be with the thread already
    may_write.set()
    await lines.flush(30)
    kept = [json.loads(line)["fields"]["n"] for line in written]
    assert kept == list(range(MOST_LINES + 500 - reasons["congested"]))


async def test_each_line_that_could_not_be_written_is_counted_once() -> None:
    lines, fails = LineWriter(), True

    def write(line: str) -> None:
        if fails:
            raise OSError("the pipe is broken")

    out = LineSink(write, lines)
    await out.send("Out", {"n": 1}, 5)
    await lines.flush(30)
    fails = False
    with pytest.raises(OutputDropped, match="the pipe is broken"):
        await out.send("Out", {"n": 2}, 5)
    await out.send("Out", {"n": 3}, 5)


async def test_an_output_that_is_no_text_in_json_is_dropped() -> None:
    out = await registry("memory").create_sink(sink(topic="mem.surrogate"))
    with pytest.raises(OutputDropped) as dropped:
        await out.send("Out", {"a": "\ud800"}, 5)
    assert dropped.value.reason == "not_encodable"
