"""A worker without NATS: which coordinator it talks to, what its lease makes of silence, and what strangers
and bad requests get.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.membership import Heartbeat, HeartbeatAck
from tests.support.cluster import environment
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from tests.unit.worker.support import (
    KEY,
    PASS,
    Commander,
    FakeRestCoordinator,
    bare_client,
    collect,
    command,
    config,
    coordinated_over_rest,
    over_rest,
    running,
)
from transport.http_client import HttpClient
from worker.app import Worker, serve
from worker.identity import Superseded
from worker.link import Ears
from worker.rest_link import RestLink

DOWN: tuple[int, dict[str, Any]] = (503, {"error": "no leader", "code": "unavailable", "retryable": True})


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


class Silent(NamedTuple):
    """A server that accepts and says nothing, as one that is frozen; what it was sent."""

    url: str
    asked: list[bytes]


@asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        await reader.read()
        writer.close()

    asked: list[bytes] = []
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield Silent(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked)


async def test_coordinators_are_tried_in_turn_and_the_one_that_answered_stays_first(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with coordinated_over_rest(lease_secs=5) as first, coordinated_over_rest(lease_secs=5) as second:
        given = over_rest(tmp_path, nowhere(), first.url, second.url)
        async with running(nats_server, tmp_path, api_key="k", **given) as worker:
            await until(lambda: len(first.heartbeats) > 2, what="heartbeats at the first that answers")
            assert not second.paths
            await first.server.stop(0.1)
            await until(lambda: len(second.heartbeats) > 2, what="heartbeats at the next")
            assert worker.health()["ready"]
            assert not second.registrations, "the cluster knows it already"
    assert set(first.keys) == set(second.keys) == {(KEY, "k")}
    numbers = [beat["seq"] for beat in first.heartbeats + second.heartbeats]
    assert numbers == sorted(set(numbers))


async def test_one_that_knows_of_no_leader_is_left_for_the_next(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with coordinated_over_rest(lease_secs=5) as first, coordinated_over_rest(lease_secs=5) as second:
        first.refusal = DOWN
        given = over_rest(tmp_path, first.url, second.url)
        async with running(nats_server, tmp_path, **given):
            await until(lambda: second.heartbeats, what="heartbeats at the other")


async def leases_pass(coordinator: FakeRestCoordinator) -> None:
    """More than two of half a second, for an interval of 0.05 s."""
    asked = len(coordinator.paths)
    await until(lambda: len(coordinator.paths) > asked + 30, what="heartbeats for more than two leases")


async def test_a_lease_outlives_the_leader_where_most_coordinators_cannot_lead(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with coordinated_over_rest(lease_secs=0.5) as first, coordinated_over_rest() as second:
        given = over_rest(tmp_path, first.url, second.url, nowhere())
        async with running(nats_server, tmp_path, **given) as worker:
            await until(lambda: first.heartbeats, what="a heartbeat")
            first.refusal = second.refusal = DOWN
            await leases_pass(first)
            assert worker.health()["lease_open"], "two say that nobody leads, and nobody listens at the third"
            await second.server.stop(0.1)
            await leases_pass(first)
            assert worker.health()["lease_open"], "one says so, and nobody listens at the others"


async def test_a_lease_ends_where_most_coordinators_are_silent_and_may_have_a_leader(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The one that answers may be cut off from them together with us."""
    async with silent() as one, silent() as other, coordinated_over_rest(lease_secs=1.0) as first:
        given = over_rest(tmp_path, first.url, one.url, other.url)
        async with running(nats_server, tmp_path, **given) as worker:
            await until(lambda: first.heartbeats, what="a heartbeat")
            assert worker.health()["lease_open"]
            first.refusal = DOWN
            await until(lambda: not worker.health()["lease_open"], what="the end of the lease")
            first.refusal = None
            await until(lambda: worker.health()["lease_open"], what="the next lease")


async def test_a_worker_that_did_not_start_has_nothing_to_stop(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    await Worker(config(nats_server, tmp_path)).stop()


async def test_one_that_froze_costs_a_heartbeat_its_patience_and_no_more(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with silent() as frozen, coordinated_over_rest(lease_secs=5) as coordinator:
        link = RestLink(HttpClient(), (frozen.url, coordinator.url), "w", api_key="", worker_key=KEY)
        acks: list[HeartbeatAck] = []

        async def acknowledged(seq: int, ack: HeartbeatAck) -> None:
            acks.append(ack)

        nothing: Any = lambda *_: None  # noqa: E731
        await link.open(Ears(acknowledged, nothing, nothing, nothing, nothing, nothing))
        beat = Heartbeat(events_processed=0, pipelines_running=0, seq=1)
        await link.beat(1, beat, 0.2)
        await link.beat(2, beat, 0.2)
        await link._http.close()
    assert len(frozen.asked) == 1 and len(acks) == 2 and link.coordinator == coordinator.url


@asynccontextmanager
async def process(url: str, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process that speaks REST to `url`; killed at the end if it still runs."""
    (tmp_path / "worker.key").write_text(KEY)
    command = [sys.executable, "-m", "cli.main", "worker", "--id", "worker-0", "--coordinators", url]
    command += ["--worker-key-file", str(tmp_path / "worker.key"), "--data-dir", str(tmp_path / "data")]
    child = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_a_thawed_worker_drops_what_it_would_have_put_out_until_it_is_acknowledged(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = f'connector Bus = nats(url: "{nats_server.url}")\n{PASS}.to(Bus, topic: "out")'
    async with (
        coordinated_over_rest(lease_secs=0.5) as coordinator,
        bare_client(nats_server) as client,
        process(coordinator.url, tmp_path) as child,
    ):
        heard = await collect(client, "out")
        await until(lambda: coordinator.heartbeats, timeout=30, what="a heartbeat")
        url = coordinator.registrations[0]["address"]
        commander = Commander(url)
        async with commander.http, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            deployed = await command(commander, "deploy", {"name": "p", "source": source})
            event = {"pipeline_id": deployed["id"], "event_type": "In"}
            beats = len(coordinator.heartbeats)
            await until(lambda: len(coordinator.heartbeats) > beats + 2, what="acknowledged heartbeats")
            child.send_signal(signal.SIGSTOP)
            coordinator.answers = False
            late = asyncio.create_task(command(commander, "inject", {**event, "fields": {"n": 1}}))
            await asyncio.sleep(0.7)  # the lease runs out: it is real time that must pass
            child.send_signal(signal.SIGCONT)
            assert (await late)["ok"]

            async def dropped() -> bool:
                return 'dropped_total{reason="lease_expired"} 2.0' in (await http.get("/metrics")).text

            async def lease_open() -> bool:
                return bool((await http.get("/health")).json()["lease_open"])

            await until(dropped, what="the dropped output")
            beats = len(coordinator.heartbeats)
            await until(lambda: len(coordinator.heartbeats) > beats + 2, what="heartbeats without a lease")
            assert not await lease_open(), "that they go out is not enough"
            coordinator.answers = True
            await until(lease_open, what="the acknowledgement")
            await command(commander, "inject", {**event, "fields": {"n": 2}})
            await until(lambda: heard.messages, what="the next output")
    assert heard.fields == [{"n": 2}]


async def test_sigterm_drains_and_exits_with_zero_once_the_leader_says_that_nothing_will_be_moved(
    tmp_path: Path,
) -> None:
    async with coordinated_over_rest(lease_secs=5) as coordinator:
        async with process(coordinator.url, tmp_path) as child:
            await until(lambda: coordinator.heartbeats, timeout=30, what="a heartbeat")
            commander = Commander(coordinator.registrations[0]["address"])
            async with commander.http:
                pipeline_id = (await command(commander, "deploy", {"name": "p", "source": PASS}))["id"]
            child.send_signal(signal.SIGTERM)
            await until(lambda: coordinator.heartbeats[-1].get("draining"), what="it says that it leaves")
            coordinator.directives = [{"do": "leave"}]
            async with asyncio.timeout(8):  # less than it would wait by itself
                _, errors = await child.communicate()
        assert child.returncode == 0, errors.decode()
        assert b"Traceback" not in errors and KEY.encode() not in errors
        assert coordinator.heartbeats[-1]["draining"] is True
    assert list((tmp_path / "data" / "checkpoints" / "~" / pipeline_id).glob("manifest-*"))


async def test_a_worker_that_the_cluster_does_not_know_registers_again_as_the_same_incarnation(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        coordinated_over_rest(lease_secs=5) as coordinator,
        running(nats_server, tmp_path, carrier="rest", by=coordinator),
    ):
        await until(lambda: coordinator.heartbeats, what="a heartbeat")
        answer = coordinator._answer
        coordinator._answer = _unknown(coordinator, answer)  # type: ignore[method-assign]
        await until(lambda: len(coordinator.registrations) == 2, what="the second registration")
    assert len({each["incarnation"] for each in coordinator.registrations}) == 1


def _unknown(coordinator: FakeRestCoordinator, answer: Any) -> Any:
    """The next heartbeats are answered 404, until it registers again."""

    def respond(path: str, message: Any) -> tuple[int, dict[str, Any]]:
        if path.endswith("/register"):
            coordinator._answer = answer  # type: ignore[method-assign]
            answered: tuple[int, dict[str, Any]] = answer(path, message)
            return answered
        return 404, {"error": "there is no worker", "code": "not_found", "retryable": False}

    return respond


async def test_outputs_leave_while_nobody_leads_and_stop_when_nobody_answers(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        coordinated_over_rest(lease_secs=0.4) as coordinator,
        running(nats_server, tmp_path, carrier="rest", by=coordinator) as worker,
    ):
        await until(lambda: worker.health()["lease_open"] and coordinator.heartbeats, what="a lease")
        coordinator.refusal = DOWN
        before = len(coordinator.paths)
        await until(lambda: len(coordinator.paths) > before + 20, what="a lease long of heartbeats")
        assert worker.health()["lease_open"]
        await coordinator.server.stop(0.1)
        await until(lambda: not worker.health()["lease_open"], what="the lease to run out")
        assert not worker.health()["ready"]


async def test_a_worker_that_was_superseded_ends(nats_server: NatsServer, tmp_path: Path) -> None:
    async with coordinated_over_rest(lease_secs=5) as coordinator:
        worker = Worker(config(nats_server, tmp_path, **over_rest(tmp_path, coordinator.url)))
        await worker.start()
        try:
            await until(lambda: coordinator.heartbeats, what="a heartbeat")
            coordinator.refusal = (
                409,
                {"error": "incarnation f is newer", "code": "conflict", "retryable": False},
            )
            (work,) = [task for task in worker._work if "Membership" in repr(task)]
            await until(work.done, what="its end")
            assert isinstance(work.exception(), Superseded)
        finally:
            await worker.abandon()


async def test_its_last_heartbeat_says_that_it_drains(nats_server: NatsServer, tmp_path: Path) -> None:
    async with coordinated_over_rest(lease_secs=5) as coordinator:
        async with running(nats_server, tmp_path, carrier="rest", by=coordinator):
            await until(lambda: coordinator.heartbeats, what="a heartbeat")
        assert coordinator.heartbeats[-1]["draining"] is True


async def test_a_stranger_gets_401_and_is_counted_whatever_he_asks(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(nats_server, tmp_path, carrier="rest") as worker:
        for headers in ({}, {"x-api-key": ""}, {"x-api-key": KEY[:-1]}, {"x-api-key": f"{KEY}x"}):
            async with httpx.AsyncClient(base_url=worker.url, headers=headers, trust_env=False) as http:
                for path in ("/api/v1/pipelines", "/api/v1/drain", "/api/v1/nothing"):
                    answer = await http.post(path, json={"name": "p", "source": PASS})
                    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                    assert KEY not in answer.text
        assert not worker.host.pipelines and not worker.host.draining
        async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as http:
            assert (await http.get("/livez")).status_code == 200
            metrics = (await http.get("/metrics")).text
    assert 'varpulis_commands_total{code="unauthorized",command="?"} 12.0' in metrics
    assert 'varpulis_http_commands_total{route="?",status="401"} 12.0' in metrics
    assert KEY not in metrics


BAD: list[tuple[str, str, str | bytes, dict[str, str], int, str, str]] = [
    ("POST", "/pipelines", "", {}, 400, "bad_request", "`name`"),
    ("POST", "/pipelines", "{", {}, 400, "bad_request", "not valid JSON"),
    ("POST", "/pipelines", "[]", {}, 400, "bad_request", "Expected `object`"),
    ("POST", "/pipelines", b"\xff", {}, 400, "bad_request", "JSON"),
    ("POST", "/pipelines", "[" * 100_000, {}, 400, "bad_request", "Deploy"),
    ("POST", "/pipelines", '{"name":"p","source":5}', {}, 400, "bad_request", "$.source"),
    ("POST", "/pipelines", '{"name":"p","source":"nonsense"}', {}, 422, "parse_error", "1:1"),
    (
        "POST",
        "/pipelines",
        '{"name":"p","source":""}',
        {"content-type": "text/xml"},
        415,
        "bad_request",
        "xml",
    ),
    ("POST", "/pipelines", b"x" * 1_100_000, {}, 413, "bad_request", "limit"),
    ("GET", "/pipelines", "", {}, 405, "unknown_command", "POST"),
    ("PUT", "/pipelines/p-1", "", {}, 405, "unknown_command", "DELETE"),
    ("DELETE", "/pipelines/p-1", "", {}, 404, "pipeline_not_found", "p-1"),
    ("DELETE", "/pipelines/p-1?epoch=x", "", {}, 400, "bad_request", "$.epoch"),
    ("DELETE", "/pipelines/p-1?" + "&".join("abcdefghijklmnopqrs"), "", {}, 400, "bad_request", "query"),
    ("POST", "/pipelines/p-1/events", '{"event_type":"E"}', {}, 404, "pipeline_not_found", "p-1"),
    ("POST", "/pipelines/p-1/events", "{}", {}, 400, "bad_request", "event_type"),
    ("POST", "/pipelines/p-1/events", "7", {}, 400, "bad_request", "object"),
    (
        "POST",
        "/pipelines/p-1/events",
        '{"pipeline_id":"p-2","event_type":"E"}',
        {},
        400,
        "bad_request",
        "$.pipeline_id",
    ),
    ("POST", "/pipelines/p-1/events-batch", '{"events":7}', {}, 400, "bad_request", "$.events"),
    ("POST", "/pipelines/p-1/restore", "{}", {}, 404, "pipeline_not_found", "p-1"),
    ("POST", "/pipelines/p-1/inject", '{"event_type":"E"}', {}, 404, "unknown_command", "nothing at"),
    ("POST", "/pipelines/p-1/deploy", "{}", {}, 404, "unknown_command", "nothing at"),
    ("POST", "/pipelines//events", "{}", {}, 404, "unknown_command", "nothing at"),
    ("POST", "/deploy", "{}", {}, 404, "unknown_command", "nothing at"),
    ("POST", "/reboot", "{}", {}, 404, "unknown_command", "nothing at"),
    ("POST", "/pipelines/p-1/a/b", "{}", {}, 404, "unknown_command", "nothing at"),
]


async def test_each_bad_request_gets_its_status_and_hurts_nobody(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(nats_server, tmp_path, carrier="rest", max_pipelines=1) as worker:
        commander = Commander(worker.url)
        async with commander.http:
            for method, path, body, headers, status, code, text in BAD:
                head = {"x-api-key": KEY, "content-type": "application/json", **headers}
                url = httpx.URL(worker.url).copy_with(raw_path=f"/api/v1{path}".encode())
                answer = await commander.http.request(method, url, content=body, headers=head)
                row = f"{method} {path[:60]} {body[:60]!r}: {answer.status_code} {answer.text[:300]}"
                assert answer.status_code == status, row
                assert answer.json()["code"] == code and text in answer.json()["error"], row
            deployed = await command(
                commander, "deploy", {"name": "p", "source": PASS, "epoch": 5, "group": "g"}
            )
            assert deployed["status"] == "running"
            stale = {"pipeline_id": deployed["id"], "event_type": "In", "epoch": 4}
            assert (await command(commander, "inject", stale))["code"] == "stale_epoch"
            assert commander.statuses[-1] == 409
            full = await commander.http.post("/pipelines", json={"name": "q", "source": PASS})
            assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
            assert int(full.headers["retry-after"]) >= 1
        async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as http:
            metrics = (await http.get("/metrics")).text
    for line in (
        'varpulis_http_commands_total{route="/api/v1/pipelines",status="200"} 1.0',
        'varpulis_http_commands_total{route="/api/v1/pipelines",status="429"} 1.0',
        'varpulis_http_commands_total{route="/api/v1/pipelines/{id}/events",status="409"} 1.0',
        'varpulis_http_refused_total{reason="too_large"} 1.0',
        'varpulis_commands_total{code="ok",command="deploy"} 1.0',
    ):
        assert line in metrics
    assert "p-1" not in metrics, "no label grows with what is asked"


async def test_every_command_of_the_table_is_served(nats_server: NatsServer, tmp_path: Path) -> None:
    async with running(nats_server, tmp_path, carrier="rest") as worker:
        commander = Commander(worker.url)
        async with commander.http:
            for name in COMMANDS:
                answer = await command(commander, name, {"pipeline_id": "p-1"} if name != "drain" else {})
                assert answer.get("code") != "unknown_command", name
    assert len(commander.statuses) == len(COMMANDS)


async def test_routes_between_pipelines_are_refused_by_name_and_those_from_outside_taken(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    between = {"from_pipeline": "p", "to_pipeline": "q", "event_types": ["*"]}
    outside = {"from_pipeline": "_external", "to_pipeline": "p", "event_types": ["*"]}
    deploy = {"name": "p", "source": PASS, "group": "g"}
    async with running(nats_server, tmp_path, carrier="rest") as worker:
        commander = Commander(worker.url)
        async with commander.http:
            for routes in ([between], [outside, between], [{**outside, "nats_subject": "orders"}]):
                answer = await command(commander, "deploy", {**deploy, "routes": routes})
                assert answer["code"] == "carrier_missing" and "NATS" in answer["error"], answer
                assert commander.statuses[-1] == 409
            assert not worker.host.pipelines
            taken = await command(
                commander,
                "deploy",
                {**deploy, "routes": [outside, {**between, "to_pipeline": "r", "from_pipeline": "q"}]},
            )
            event = {"pipeline_id": taken["id"], "event_type": "In", "fields": {"n": 2**70}}
            answer = await command(commander, "inject", event)
    assert answer["output_events"] == [{"event_type": "Out", "fields": {"n": 2**70}}]


async def test_a_key_that_is_none_is_one_clear_line(
    nats_server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = over_rest(tmp_path)
    given["worker_key_file"].write_text("hunter2")
    assert await serve(config(nats_server, tmp_path, **given)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "worker_key_file" in line and "16" in line and "hunter2" not in line


async def test_a_key_that_nobody_gave_is_made_new_at_each_start(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with coordinated_over_rest() as coordinator:
        for _ in range(2):
            async with running(nats_server, tmp_path, coordinators=(coordinator.url,)) as worker:
                await until(lambda worker=worker: worker.health()["ready"], what="the registration")
    keys = {key for key, _ in coordinator.keys}
    assert len(keys) == 2 and all(key is not None and len(key) >= 32 for key in keys)
    assert not any(key and key in json.dumps(coordinator.registrations) for key in keys)
