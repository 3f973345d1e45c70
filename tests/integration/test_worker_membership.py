"""A worker as a member: registered, heard, told; killed, superseded. Coordinators are bare nats-py, or a bare
HTTP server where the scenario is one of both carriers.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from tests.unit.worker.support import (
    PASS,
    bare_client,
    collect,
    command,
    commanding,
    config,
    coordinated,
    running,
)
from transport.config import NatsConfig
from worker.app import Worker, WorkerConfig, WorkerIdInUse, serve
from worker.pipeline import Pipeline
from worker.pipelines import PipelineHost

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from transport.config import NatsConfig
from transport.loop import run
from worker.app import WorkerConfig, serve
url, directory = sys.argv[1:]
sys.exit(run(serve(WorkerConfig("worker-0", NatsConfig(servers=(url,)), Path(directory)))))
"""


@pytest.fixture(params=["nats", "rest"])
def carrier(request: pytest.FixtureRequest) -> str:
    """What carries registrations, heartbeats and commands."""
    return str(request.param)


@asynccontextmanager
async def process(url: str, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process; killed at the end if it still runs."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url, str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_a_worker_registers_with_what_the_seed_asks_and_more(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        coordinated(nats_server, carrier=carrier) as coordinator,
        running(
            nats_server, tmp_path, carrier=carrier, by=coordinator, labels={"zone": "a"}, api_key="k"
        ) as worker,
    ):
        await until(lambda: coordinator.heartbeats, what="a heartbeat")
    registration = coordinator.registrations[0]
    assert registration["worker_id"] == "worker-0" and registration["api_key"] == "k"
    assert registration.get("carrier") == ("rest" if carrier == "rest" else None)
    assert registration["address"] == worker.url
    assert registration["capacity"] == {"cpu_cores": 2, "pipelines_running": 0, "max_pipelines": 100}
    assert registration["labels"] == {"zone": "a"} and registration["pipelines"] == []
    heartbeat = coordinator.heartbeats[0]
    assert heartbeat["events_processed"] == 0 and heartbeat["pipelines_running"] == 0
    assert heartbeat["seq"] == 1 and heartbeat["incarnation"] == registration["incarnation"]


async def test_it_tries_for_ever_and_as_the_same_incarnation_until_a_coordinator_accepts(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    seen = []
    answers = [b"not json", b'{"error":"no leader","code":"unavailable","retryable":true}', b"{}"]
    accepted = b'{"worker_id":"worker-0","status":"registered","heartbeat_interval_secs":0.05}'

    async def hesitate(message: Msg) -> None:
        seen.append(json.loads(message.data)["incarnation"])
        await message.respond(answers.pop(0) if answers else accepted)

    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        assert not worker.health()["ready"]
        await client.subscribe("varpulis.cluster.register", cb=hesitate)
        await until(lambda: worker.health()["ready"], what="the acceptance")
    assert len(seen) == 4 and len(set(seen)) == 1


async def test_heartbeats_tell_what_really_runs_and_how_it_does(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = f'connector Bus = nats(url: "{nats_server.url}")\n' + PASS.replace(
        "In.", 'In.from(Bus, topic: "in").'
    )
    async with (
        coordinated(nats_server) as coordinator,
        running(nats_server, tmp_path),
        bare_client(nats_server) as client,
    ):
        deploy = {"name": "p", "source": source, "group": "g", "epoch": 7, "term": 1}
        pipeline_id = (await command(client, "deploy", deploy))["id"]
        await client.publish("in", b'{"event_type":"In","n":1}')
        await until(lambda: coordinator.heartbeats[-1]["events_processed"] == 1, what="the counted event")
        heartbeat = coordinator.heartbeats[-1]
        await command(client, "undeploy", {"pipeline_id": pipeline_id})
        await until(lambda: coordinator.heartbeats[-1]["pipelines_running"] == 0, what="the undeploy")
    assert heartbeat["pipelines_running"] == 1
    assert heartbeat["pipelines"] == [
        {"pipeline_id": pipeline_id, "group": "g", "name": "p", "epoch": 7, "state": "running"}
    ]
    (metrics,) = heartbeat["pipeline_metrics"]
    (health,) = metrics.pop("connector_health")
    assert metrics == {"pipeline_name": "p", "events_in": 1, "events_out": 1}
    assert health == {
        "connector_name": "Bus",
        "connector_type": "nats",
        "connected": True,
        "messages_received": 1,
        "seconds_since_last_message": 0,
    }
    assert coordinator.heartbeats[-1]["events_processed"] == 1
    sequence = [heartbeat["seq"] for heartbeat in coordinator.heartbeats]
    assert sequence == list(range(1, len(sequence) + 1))


async def test_directives_are_followed(nats_server: NatsServer, tmp_path: Path, carrier: str) -> None:
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=5) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator) as worker,
        commanding(nats_server, worker) as client,
    ):
        pipeline_id = (await command(client, "deploy", {"name": "p", "source": PASS}))["id"]
        kept = tmp_path / "worker-0" / "checkpoints" / "~" / pipeline_id
        coordinator.directives = [
            {"do": "checkpoint", "pipeline_id": pipeline_id},
            {"do": "unheard-of"},
            {"do": "undeploy", "pipeline_id": "unknown"},
        ]
        await until(lambda: list(kept.glob("manifest-*")), what="the checkpoint")
        coordinator.directives = [{"do": "undeploy", "pipeline_id": pipeline_id}]
        await until(lambda: not worker.host.pipelines, what="the undeploy")
        coordinator.directives = [{"do": "register"}]
        await until(lambda: len(coordinator.registrations) == 2, what="the second registration")
    assert len({registration["incarnation"] for registration in coordinator.registrations}) == 1


async def test_an_answer_of_a_deposed_leader_changes_nothing(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=5) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator) as worker,
        commanding(nats_server, worker) as client,
    ):
        pipeline_id = (await command(client, "deploy", {"name": "p", "source": PASS}))["id"]
        coordinator.term = 9
        await until(lambda: worker.health()["term"] == 9, what="the new term")
        coordinator.term = 8
        coordinator.directives = [{"do": "undeploy", "pipeline_id": pipeline_id}]
        await until(lambda: not coordinator.directives, what="the stale answer")
        before = len(coordinator.heartbeats)
        await until(lambda: len(coordinator.heartbeats) > before + 2, what="later heartbeats")
        assert [pipeline.id for pipeline in worker.host.pipelines] == [pipeline_id]


async def test_it_registers_again_when_answers_it_used_to_get_stay_out(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=0.1) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator),
    ):
        await until(lambda: len(coordinator.heartbeats) > 2, what="acknowledged heartbeats")
        coordinator.answers = False
        await until(lambda: len(coordinator.registrations) == 2, what="the second registration")
        before = len(coordinator.heartbeats)
        await until(lambda: len(coordinator.heartbeats) > before, what="heartbeats meanwhile")


async def test_after_a_restart_of_the_server_it_registers_again_with_what_runs(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        coordinated(nats_server) as coordinator,
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        pipeline_id = (await command(client, "deploy", {"name": "p", "source": PASS}))["id"]
        await until(lambda: coordinator.heartbeats, what="a heartbeat")
        await asyncio.to_thread(nats_server.restart)
        await until(lambda: len(coordinator.registrations) >= 2, what="the second registration")
        assert [each["pipeline_id"] for each in coordinator.registrations[-1]["pipelines"]] == [pipeline_id]
        async with bare_client(nats_server) as fresh:
            answer = await command(fresh, "inject", {"pipeline_id": pipeline_id, "event_type": "In"})
        assert answer["ok"]
        assert worker.health()["ready"]


async def test_a_second_worker_of_the_same_id_does_not_start(nats_server: NatsServer, tmp_path: Path) -> None:
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        with pytest.raises(WorkerIdInUse, match=r"worker-0.*in use.*stop that one"):
            await Worker(config(nats_server, tmp_path)).start()
        assert (await command(client, "deploy", {"name": "p", "source": PASS}))["status"] == "running"


async def test_a_silent_holder_of_the_id_is_superseded(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def say_nothing(message: Msg) -> None:
        return None

    async with bare_client(nats_server) as frozen:
        await frozen.subscribe("varpulis.cluster.cmd.worker-0.>", cb=say_nothing)
        await frozen.flush()
        async with running(nats_server, tmp_path):
            assert "superseding" in caplog.text


async def test_a_frozen_worker_that_was_superseded_ends_when_it_thaws(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        coordinated(nats_server) as coordinator,
        bare_client(nats_server) as client,
        process(nats_server.url, tmp_path) as former,
    ):
        await until(lambda: coordinator.heartbeats, timeout=30, what="a heartbeat")
        former.send_signal(signal.SIGSTOP)
        async with running(nats_server, tmp_path) as worker:
            await until(lambda: worker.health()["ready"], what="the successor's registration")
            former.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                _, errors = await former.communicate()
            assert (await command(client, "deploy", {"name": "p", "source": PASS}))["status"] == "running"
            incarnation = worker.health()["incarnation"]
            before = len(coordinator.heartbeats)
            await until(lambda: len(coordinator.heartbeats) > before, what="a later heartbeat")
    assert former.returncode == 1
    assert b"newer than this one" in errors and b"Traceback" not in errors
    assert coordinator.heartbeats[-1]["incarnation"] == incarnation


async def test_a_killed_worker_registers_again_as_a_new_incarnation(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    incarnations = set()
    async with coordinated(nats_server) as coordinator:
        for _ in range(2):
            coordinator.registrations.clear()
            async with process(nats_server.url, tmp_path) as child:
                await until(lambda: coordinator.registrations, timeout=30, what="a registration")
                incarnations.add(coordinator.registrations[0]["incarnation"])
                os.kill(child.pid, signal.SIGKILL)
                assert await child.wait() == -signal.SIGKILL
    assert len(incarnations) == 2


async def test_a_thawed_worker_drops_what_it_would_have_put_out_until_it_is_acknowledged(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    out = {"from_pipeline": "p", "to_pipeline": "q", "event_types": ["*"], "nats_subject": "out"}
    deploy = {"name": "p", "source": PASS, "group": "g", "routes": [out]}
    subject = "varpulis.cluster.pipeline.g.x.p"
    async with (
        coordinated(nats_server, lease_secs=0.5) as coordinator,
        bare_client(nats_server) as client,
        process(nats_server.url, tmp_path) as child,
    ):
        heard = await collect(client, "out")
        await until(lambda: coordinator.heartbeats, timeout=30, what="a heartbeat")
        await command(client, "deploy", deploy)
        beats = len(coordinator.heartbeats)
        await until(lambda: len(coordinator.heartbeats) > beats + 2, what="acknowledged heartbeats")
        child.send_signal(signal.SIGSTOP)
        coordinator.answers = False
        await asyncio.sleep(0.7)  # the lease runs out: it is real time that must pass
        await client.publish(subject, b'{"event_type":"In","n":1}')
        await client.flush()
        child.send_signal(signal.SIGCONT)
        url = coordinator.registrations[0]["address"]
        async with httpx.AsyncClient(base_url=url) as http:

            async def dropped() -> bool:
                return 'dropped_total{reason="lease_expired"} 1.0' in (await http.get("/metrics")).text

            await until(dropped, what="the dropped output")
            coordinator.answers = True

            async def lease_open() -> bool:
                return bool((await http.get("/health")).json()["lease_open"])

            await until(lease_open, what="the acknowledgement")
        await client.publish(subject, b'{"event_type":"In","n":2}')
        await until(lambda: heard.messages, what="the next output")
    assert heard.fields == [{"n": 2}]


async def test_a_copy_of_a_deploy_of_unknown_age_puts_nothing_out_until_the_leader_leaves_it_alone(
    nats_server: NatsServer, tmp_path: Path, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.membership.VOUCH_WAIT", 0.2)
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=30) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator) as worker,
        commanding(nats_server, worker) as client,
    ):

        async def deploy(name: str, **heard: Any) -> Pipeline:
            message = {"name": name, "source": PASS, "group": "g", "epoch": 1, **heard}
            return worker.host.get((await command(client, "deploy", message))["id"])

        await until(lambda: worker._lease.granted, what="the lease")
        coordinator.answers = False
        last = {key: coordinator.heartbeats[-1][key] for key in ("incarnation", "seq")}
        known = await deploy("known", heard=last)
        unknown = await deploy("unknown")
        another = await deploy("another", heard={**last, "incarnation": "another"})
        assert worker.health()["lease_open"]
        assert [each.may_put_out() for each in (known, unknown, another)] == [True, False, False]
        for word in ({"judged": 2**70}, {"judged": -1}, {"judged": "7"}, {"renews": False}):
            coordinator.more, coordinator.answers = word, True
            before = len(coordinator.heartbeats)
            await until(lambda before=before: len(coordinator.heartbeats) > before + 2, what="answers")
            assert not unknown.may_put_out(), word
        coordinator.directives = [{"do": "undeploy", "pipeline_id": another.id}]
        coordinator.more = {}
        await until(unknown.may_put_out, what="the leader has left it alone")
        assert worker.host.find(another.id) is None
        monkeypatch.setattr("worker.membership.VOUCH_WAIT", 10.0)
        assert (await deploy("fourth")).may_put_out(), "the answer to a deploy waits for that"
        odd = {"name": "odd", "source": PASS, "heard": {"incarnation": 7, "seq": "x"}}
        assert (await command(client, "deploy", odd))["code"] == "bad_request"


async def test_a_deploy_that_the_leader_ends_while_it_starts_is_refused(
    nats_server: NatsServer, tmp_path: Path, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.membership.VOUCH_WAIT", 10.0)
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=30) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator) as worker,
        commanding(nats_server, worker) as client,
    ):
        await until(lambda: worker._lease.granted, what="the lease")
        coordinator.answers = False
        deploying = asyncio.create_task(command(client, "deploy", {"name": "p", "source": PASS}))
        await until(lambda: worker.host.pipelines, what="the copy")
        coordinator.directives = [{"do": "undeploy", "pipeline_id": worker.host.pipelines[0].id}]
        coordinator.answers = True
        assert (await deploying)["code"] == "stale_epoch"


async def test_an_answer_that_renews_nothing_leaves_a_shut_worker_shut(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        coordinated(nats_server, carrier=carrier, lease_secs=30) as coordinator,
        running(nats_server, tmp_path, carrier=carrier, by=coordinator) as worker,
    ):
        await until(lambda: worker._lease.granted, what="the lease")
        worker._lease.cut_off(time.monotonic())
        coordinator.more = {"renews": False}
        before = len(coordinator.heartbeats)
        await until(lambda: len(coordinator.heartbeats) > before + 3, what="answered heartbeats")
        assert not worker.health()["lease_open"]
        coordinator.more = {}
        await until(lambda: worker.health()["lease_open"], what="an answer that does")


async def test_a_deploy_that_waited_in_the_socket_of_a_frozen_worker_never_speaks_beside_its_successor(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The leader gave the pipeline to another worker meanwhile, and another leader renews the lease."""
    out = {"from_pipeline": "p", "to_pipeline": "q", "event_types": ["*"], "nats_subject": "out"}
    deploy = {"name": "p", "source": PASS, "group": "g", "routes": [out], "epoch": 13, "term": 1}
    subject = "varpulis.cluster.pipeline.g.x.p"
    async with (
        coordinated(nats_server, lease_secs=1.5, interval=1.0) as coordinator,
        bare_client(nats_server) as client,
        process(nats_server.url, tmp_path) as child,
    ):
        heard = await collect(client, "out")
        await until(lambda: len(coordinator.heartbeats) > 1, timeout=30, what="acknowledged heartbeats")
        child.send_signal(signal.SIGSTOP)
        coordinator.end_all = True
        last = {key: coordinator.heartbeats[-1][key] for key in ("incarnation", "seq")}
        waiting = asyncio.create_task(command(client, "deploy", {**deploy, "heard": last}))
        await asyncio.sleep(1.7)  # the lease runs out: it is real time that must pass

        async def published() -> None:
            number = 0
            while True:
                await client.publish(subject, f'{{"event_type":"In","n":{number}}}'.encode())
                number += 1
                await asyncio.sleep(0.001)

        publishing = asyncio.create_task(published())
        child.send_signal(signal.SIGCONT)
        await waiting

        def came_and_went() -> bool:
            listed = [bool(each["pipelines"]) for each in coordinator.heartbeats]
            return any(listed) and not listed[-1]

        await until(came_and_went, what="the copy ran, and was ended")
        publishing.cancel()
        await client.flush()
    assert heard.messages == []


async def test_sigterm_drains_and_exits_with_zero(nats_server: NatsServer, tmp_path: Path) -> None:
    async with coordinated(nats_server) as coordinator, bare_client(nats_server) as client:
        async with process(nats_server.url, tmp_path) as child:
            await until(lambda: coordinator.heartbeats, timeout=30, what="a heartbeat")
            pipeline_id = (await command(client, "deploy", {"name": "p", "source": PASS}))["id"]
            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                _, errors = await child.communicate()
        assert child.returncode == 0, errors.decode()
        assert b"Traceback" not in errors
        await until(lambda: coordinator.heartbeats[-1].get("draining"), what="the last heartbeat")
    assert list((tmp_path / "checkpoints" / "~" / pipeline_id).glob("manifest-*"))


async def test_sigterm_while_waiting_for_a_server_ends_it_at_once(tmp_path: Path) -> None:
    async with process(f"nats://127.0.0.1:{free_port()}", tmp_path) as child:
        assert child.stderr is not None
        async with asyncio.timeout(30):
            await child.stderr.readline()  # it says that nobody is there, and tries on for 10 s
            child.send_signal(signal.SIGTERM)
            _, errors = await child.communicate()
    assert child.returncode == 0
    assert b"Traceback" not in errors


async def test_a_port_in_use_is_one_clear_line(
    nats_server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(nats_server, tmp_path, worker_id="first") as first:
        port = int(first.url.rpartition(":")[2])
        assert await serve(config(nats_server, tmp_path, http_port=port)) == 1
        (line,) = capsys.readouterr().err.splitlines()
    assert str(port) in line and line.startswith("varpulis worker worker-0: ")


async def test_a_server_that_is_not_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("worker.app.NATS_WAIT", 0.2)
    port = free_port()
    nowhere = WorkerConfig("w", NatsConfig(servers=(f"nats://127.0.0.1:{port}",)), tmp_path)
    assert await serve(nowhere) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(port) in line and "start nats-server" in line


async def test_a_worker_whose_timers_ended_does_not_live_on(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(host: PipelineHost) -> None:
        raise RuntimeError("a bug in the timers")

    monkeypatch.setattr(PipelineHost, "run_timers", break_down)
    async with asyncio.timeout(10):
        assert await serve(config(nats_server, tmp_path)) == 1
    assert "a bug in the timers" in caplog.text


async def test_health_and_metrics_are_served(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
        httpx.AsyncClient(base_url=worker.url) as http,
    ):
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        async with coordinated(nats_server, lease_secs=5):
            await until(lambda: worker.health()["ready"], what="the registration")
            assert (await http.get("/readyz")).status_code == 200
        pipeline_id = (await command(client, "deploy", {"name": "p", "source": PASS}))["id"]
        await command(client, "inject", {"pipeline_id": pipeline_id, "event_type": "In", "fields": {"n": 1}})
        await command(client, "x" * 50, {})
        metrics = (await http.get("/metrics")).text
        health = (await http.get("/health")).json()
        assert (await http.get("/nothing")).json()["code"] == "not_found"
        assert (await http.post("/health")).status_code == 405
        assert (await http.head("/health")).content == b""
    for line in (
        "varpulis_events_total 1.0",
        "varpulis_output_events_total 1.0",
        "varpulis_processing_latency_seconds_count 1.0",
        'varpulis_pipelines{state="running"} 1.0',
        'varpulis_commands_total{code="ok",command="deploy"} 1.0',
        'varpulis_commands_total{code="unknown_command",command="?"} 1.0',
        "varpulis_registered 1.0",
        "varpulis_lease_open 1.0",
        "varpulis_nats_connected 1.0",
    ):
        assert line in metrics.splitlines()
    assert health["pipelines"] == [{"pipeline_id": pipeline_id, "name": "p", "state": "running"}]


async def test_however_many_pipelines_run_and_whatever_they_are_called_the_figures_are_as_many(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(nats_server, tmp_path, max_pipelines=500) as worker,
        bare_client(nats_server) as client,
        httpx.AsyncClient(base_url=worker.url) as http,
    ):

        async def series() -> set[str]:
            page = (await http.get("/metrics")).text
            return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}

        async def run(name: str) -> None:
            made = await command(client, "deploy", {"name": name, "source": PASS})
            event = {"pipeline_id": made.get("id", "none"), "event_type": name, "fields": {name: name}}
            await command(client, "inject", event)
            await command(client, re.sub(r"\s", "-", name), {})

        for name in ("first", 'a "bad" name'):
            await run(name)
        before = await series()
        for number in range(200):
            await run(f"p{number}")
            await run(f'{number}"}} 1\n\\ {number}')
        assert await series() == before
        assert len(worker.host.pipelines) == 402


async def test_the_api_key_goes_to_the_coordinator_and_nowhere_else(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with (
        coordinated(nats_server) as coordinator,
        running(nats_server, tmp_path, api_key="hunter2") as worker,
        httpx.AsyncClient(base_url=worker.url) as http,
    ):
        await until(lambda: coordinator.heartbeats, what="a heartbeat")
        shown = (await http.get("/health")).text + (await http.get("/metrics")).text
    assert coordinator.registrations[0]["api_key"] == "hunter2"
    assert "hunter2" not in shown + caplog.text + json.dumps(coordinator.heartbeats)
