"""One trace from a request to the worker that carries it out: in one process over both carriers, and between
real processes that send their spans to a collector.
"""

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proto_schemas.rest.base import API_BASE
from tests.support.cluster import Cluster, poll
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.spans import trace_of, traced
from tests.unit.coordinator.three import group, three
from tests.unit.transport.test_log import LINE
from tests.unit.worker.support import over_rest, running
from transport import tracing
from transport.keyring import new_key

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADER = f"00-{TRACE}-b7ad6b7169203331-01"
GROUPS = f"{API_BASE}/pipeline-groups"
WAY = [
    f"POST {GROUPS}",
    f"POST {GROUPS}",
    "raft propose",
    "control pipeline",
    "deploy",
    "command deploy",
    "worker deploy",
]
"""Where a deploy goes that a follower was asked for: to the leader, into the log, and to a worker."""


@pytest.mark.parametrize("carrier", ["nats", "signed", "rest"])
async def test_a_deploy_is_one_trace_from_the_request_to_the_worker(
    carrier: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    key = tmp_path / "cluster.key"
    key.write_text(new_key("k"))
    key.chmod(0o600)
    given: dict[str, Any] = {"cluster_key_file": key} if carrier == "signed" else {}
    with traced() as spans:
        async with three(nats_server.url, tmp_path, **given) as stage:
            if carrier == "rest":
                given = over_rest(tmp_path, *(node.url for node in stage.nodes.values()))
            async with running(nats_server, tmp_path, **given) as worker:
                await until(lambda: worker.health()["ready"], what="the worker is registered")
                headers = {tracing.HEADER: HEADER}
                await stage.ask("POST", "/pipeline-groups", group(), node=stage.follower, headers=headers)
                await stage.runs()
        (deployed,) = [span for span in spans.named("worker deploy") if trace_of(span) == TRACE]
        assert spans.way_to(deployed) == WAY
        proposed = [span for span in spans.of(TRACE) if span.name == "raft propose"]
        commands = {str((span.attributes or {})["command"]) for span in proposed}
        assert commands >= {"CreateGroup", "Place", "ReportRunning"}
        asked = next(span for span in spans.of(TRACE) if span.name == WAY[0])
        assert (asked.attributes or {})["http.response.status_code"] == 201


async def test_heartbeats_probes_and_events_are_not_traced(nats_server: NatsServer, tmp_path: Path) -> None:
    with traced() as spans:
        async with three(nats_server.url, tmp_path) as stage:
            given = over_rest(tmp_path, *[node.url for node in stage.nodes.values()])
            async with running(nats_server, tmp_path, **given) as worker:
                await until(lambda: worker.health()["ready"], what="the worker is registered")
                for path in ("/livez", "/readyz", "/health", "/metrics"):
                    await stage.ask("GET", "/" + path)
        untraced = re.compile("heartbeat|livez|readyz|health|metrics")
        assert not [span.name for span in spans.all if untraced.search(span.name)]


async def test_a_request_with_a_wrong_header_is_carried_out_and_counted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with traced() as spans:
        async with three(nats_server.url, tmp_path) as stage:
            before = tracing.ignored()
            for wrong in ("", "garbage", HEADER.upper(), f"00-{'0' * 32}-b7ad6b7169203331-01"):
                answer = await stage.ask("GET", "/summary", headers={tracing.HEADER: wrong})
                assert answer.status_code == 200
            twice = [("traceparent", HEADER), ("traceparent", HEADER)]
            assert (await stage.http.get(f"{stage.leader.url}{API_BASE}/raft", headers=twice)).is_success
            assert tracing.ignored() == before + 5
            page = (await stage.ask("GET", "//metrics")).text
            assert f"varpulis_cluster_traceparents_ignored_total {tracing.ignored():.1f}" in page
        assert not spans.of(TRACE)
        assert len(spans.named(f"GET {API_BASE}/summary")) == 4


async def test_paths_that_are_none_make_one_name(nats_server: NatsServer, tmp_path: Path) -> None:
    with traced() as spans:
        async with three(nats_server.url, tmp_path) as stage:
            for number in range(20):
                await stage.ask("GET", f"/nothing-{number}")
        names = {span.name for span in spans.all if span.name.startswith("GET")}
        assert not [name for name in names if "nothing" in name]


class Collector:
    """What OpenTelemetry's collector is to the processes: it takes their spans."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        self.bodies = b""

    def take(self, body: bytes) -> None:
        """One request: (service instance, trace id, name) of each span."""
        self.bodies += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            found = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    (found["service.instance.id"], span.trace_id.hex(), span.name) for span in scope.spans
                ]

    def names(self, trace_id: str) -> dict[str, set[str]]:
        """The names in a trace, by process."""
        names: dict[str, set[str]] = {}
        for instance, trace, name in list(self.spans):
            if trace == trace_id:
                names.setdefault(instance, set()).add(name)
        return names


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector, and the URL it listens on."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_processes_of_a_cluster_send_their_parts_of_a_trace_and_name_it_in_their_logs(
    tmp_path: Path,
) -> None:
    with collecting() as (collector, url):
        asked_for = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with Cluster(tmp_path, workers=1, env=asked_for) as cluster:
            leader = cluster.leader()
            other = next(name for name in cluster.coordinators if name != leader)
            secret = {"name": "p", "source": 'stream Out = In.where(x > 0).emit(x: "canary-source")'}
            headers = {"traceparent": HEADER, "x-api-key": "canary-key", "baggage": "canary=baggage"}
            answer = httpx.post(
                cluster.url(other) + GROUPS,
                json=group() | {"pipelines": [secret]},
                headers=headers,
                trust_env=False,
            )
            assert answer.status_code == 201, answer.text
            poll(lambda: "worker deploy" in collector.names(TRACE).get("worker-0", set()), what="its span")
            poll(lambda: set(WAY[1:-1]) <= collector.names(TRACE).get(leader, set()), what="the leader's")
            poll(lambda: WAY[0] in collector.names(TRACE).get(other, set()), what="the follower's")
            cluster.down()
            logs = [cluster.data_dir / "logs" / f"{name}.log" for name in (leader, "worker-0")]
            for text in [log.read_text() for log in logs]:
                lines = [LINE.fullmatch(line) for line in text.splitlines()]
                assert None not in lines, text
                assert TRACE in {line["trace"] for line in lines if line is not None}, text
                assert "canary" not in text
        assert b"canary" not in collector.bodies


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_collector_that_is_not_there_holds_up_nobody(tmp_path: Path) -> None:
    dead = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with Cluster(tmp_path, coordinators=1, workers=1, env=dead) as cluster:
        answer = httpx.post(cluster.urls[0] + GROUPS, json=group(), trust_env=False)
        assert answer.status_code == 201, answer.text
        cluster.down()
        assert cluster.alive() == []
