"""Registered connectors, end to end: the API of three coordinators, then real processes and their CLI."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, environment
from tests.support.nats_server import NatsServer
from tests.support.pipelines import Probe
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.test_connectors import SEALER, SECRET
from tests.unit.coordinator.three import three
from transport.keyring import new_key

BY_NAME = 'stream Out = In.from(Bus, topic: "in").where(x > 0).emit(x: x)'
BUS = {"name": "Bus", "connector_type": "nats", "params": {"servers": "nats://127.0.0.1:1"}}


def naming(connector: str, name: str = "g") -> dict[str, Any]:
    source = BY_NAME.replace("Bus", connector)
    return {"name": name, "pipelines": [{"name": "p", "source": source}]}


async def test_with_a_cluster_key_a_secret_is_taken_shown_nowhere_and_opened_for_the_worker(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "cluster.key").write_text(new_key("k1"))
    (tmp_path / "cluster.key").chmod(0o600)
    own: dict[str, Any] = {"cluster_key_file": tmp_path / "cluster.key", "sign": False}
    secret = {**BUS, "params": {"servers": "nats://127.0.0.1:1", "token": SECRET}}
    async with (
        three(nats_server.url, tmp_path, **own) as stage,
        FakeWorker("w1", nats_server.url) as worker,
    ):
        created = await stage.ask("POST", "/connectors", secret, node=stage.follower)
        assert created.status_code == 201 and created.json()["params"]["token"] == "***"
        assert (await stage.ask("POST", "/pipeline-groups", naming("Bus"))).status_code == 201
        (told,) = worker.told("deploy")
        assert told["connectors"] == [secret]
        assert SECRET.encode() not in (await stage.ask("GET", "/snapshot")).content


async def test_a_connector_is_registered_named_by_a_program_and_kept_while_it_is(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        ask = stage.ask
        early = await ask("POST", "/pipeline-groups", naming("Bus"))
        assert early.status_code == 422 and "unknown connector `Bus`" in early.json()["error"]
        created = await ask("POST", "/connectors", BUS, node=stage.follower)
        assert created.status_code == 201, created.text
        assert created.json()["params"] == BUS["params"] and created.json()["version"] == 1
        assert (await ask("POST", "/connectors", BUS)).status_code == 409
        near = await ask("POST", "/pipeline-groups", naming("Buz"))
        assert near.status_code == 422 and "did you mean `Bus`" in near.json()["error"]
        checked = await ask("POST", "/validate", {"source": BY_NAME})
        assert checked.json()["valid"] is True

        assert (await ask("POST", "/pipeline-groups", naming("Bus"))).status_code == 201
        (told,) = worker.told("deploy")
        assert told["connectors"] == [BUS]
        assert (await ask("GET", "/connectors/Bus")).json()["used_by"] == ["g/p"]
        held = await ask("DELETE", "/connectors/Bus")
        assert held.status_code == 409 and "g/p" in held.json()["error"]

        changed = {**BUS, "params": {"servers": ["nats://127.0.0.1:2"]}, "description": "new"}
        answer = await ask("PUT", "/connectors/Bus", changed)
        assert answer.status_code == 200 and answer.json()["version"] == 2
        page = (await ask("GET", "/connectors", node=stage.follower)).json()
        assert page["total"] == 1 and page["connectors"] == [answer.json()]
        await ask("DELETE", "/pipeline-groups/g")
        assert (await ask("DELETE", "/connectors/Bus")).json() == {"deleted": True}
        assert (await ask("DELETE", "/connectors/Bus")).status_code == 404
        assert (await ask("PUT", "/connectors/Bus", changed)).status_code == 404
        assert (await ask("GET", "/connectors/Bus")).status_code == 404


async def test_what_is_wrong_with_a_connector_is_refused_before_it_is_replicated(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        for change, text in (
            ({"connector_type": "natz"}, "did you mean 'nats'"),
            ({"params": {"servrs": "x"}}, "did you mean 'servers'"),
            ({"params": {"servers": 7}}, "$.params.servers"),
            ({"params": {"token": SECRET}}, "no cluster key"),
            ({"name": "a b"}, "$.name"),
            ({"params": []}, "$.params"),
        ):
            answer = await stage.ask("POST", "/connectors", {**BUS, **change})
            assert answer.status_code == 400 and text in answer.json()["error"], answer.text
            assert SECRET not in answer.text
        assert (await stage.ask("PUT", "/connectors/Other", BUS)).status_code == 400
        assert (await stage.ask("GET", "/connectors")).json()["total"] == 0


async def test_a_secret_goes_to_the_worker_and_nowhere_else_and_can_be_kept_without_knowing_it(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr("coordinator.app.Sealer", lambda ring: SEALER)
    caplog.set_level("DEBUG")
    secret = {**BUS, "params": {"servers": "nats://127.0.0.1:1", "token": SECRET}}
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        seen = [await stage.ask("POST", "/connectors", secret)]
        assert seen[0].json()["params"]["token"] == "***"
        kept = {**seen[0].json(), "description": "by hand"}
        seen.append(await stage.ask("PUT", "/connectors/Bus", kept))
        assert seen[-1].status_code == 200 and seen[-1].json()["description"] == "by hand"
        seen.append(await stage.ask("PUT", "/connectors/Bus", {**BUS, "params": {"queue_group": "***"}}))
        assert seen[-1].status_code == 400 and "no secret" in seen[-1].json()["error"]
        seen.append(await stage.ask("POST", "/pipeline-groups", naming("Bus")))
        assert seen[-1].status_code == 201
        (told,) = worker.told("deploy")
        assert told["connectors"][0]["params"]["token"] == SECRET
        paths = ("/connectors", "/connectors/Bus", "/events", "/topology", "/pipeline-groups")
        seen += [await stage.ask("GET", path) for path in paths]
        assert not any(SECRET in answer.text for answer in seen)
        assert SECRET not in caplog.text


@pytest.mark.processes
async def test_a_program_reads_and_writes_through_a_connector_that_the_command_line_registered(
    tmp_path: Path,
) -> None:
    """Real processes. `varpulis events -f` follows it all, while the leader is killed."""
    program = tmp_path / "echo.vpl"
    program.write_text(
        'stream Ticks = Tick.from(Bus, topic: "test.echo.in")\n'
        'stream Even = Ticks.where(n % 2 == 0).emit(n: n).to(Bus, topic: "test.echo.out")\n'
    )
    with Cluster(tmp_path) as cluster:
        url = ("--url", ",".join(cluster.urls))
        assert cluster.run("check", str(program)).returncode == 1
        assert cluster.run("check", str(program), "--connectors", "Bus").returncode == 0
        assert cluster.run("deploy", str(program), *url).returncode == 1, "nobody registered it"
        following = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop meanwhile
            [sys.executable, "-m", "cli.main", "events", "-f", "--limit", "1", "-o", "json", *url],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None
        try:
            made = cluster.run(
                "connector", "create", "Bus", "nats", f"servers={cluster.nats_url}", *url, "-o", "json"
            )
            assert made.returncode == 0, made.stderr
            assert json.loads(made.stdout)["version"] == 1
            for command in (("connector", "list"), ("connector", "show", "Bus")):
                assert "nats://127.0.0.1" in cluster.run(*command, *url).stdout
            advice = json.loads(cluster.run("scaling", "-o", "json", *url).stdout)
            assert advice["advice"] == "hold" and advice["workers_ready"] == 2
            assert cluster.run("deploy", str(program), *url).returncode == 0
            cluster.kill(cluster.leader())
            async with Probe(cluster.nats_url, "echo") as probe:
                await until(probe.answers, timeout=30, what="events through it")
            refused = cluster.run("connector", "delete", "Bus", *url)
            assert refused.returncode == 1 and "echo/echo" in refused.stderr
            changed = cluster.run("connector", "update", "Bus", "--description", "the bus", *url)
            assert changed.returncode == 0 and "the bus" in changed.stdout
            assert cluster.run("undeploy", "echo", *url).returncode == 0
            assert cluster.run("connector", "delete", "Bus", *url).returncode == 0
            listed = cluster.run("events", "--about", "Bus", "-o", "json", *url)
            assert [event["what"] for event in json.loads(listed.stdout)["events"]] == [
                "connector_created",
                "connector_changed",
                "connector_deleted",
            ]
            seen: list[dict[str, Any]] = []
            for line in following.stdout:
                seen.append(json.loads(line))
                if seen[-1]["what"] == "connector_deleted":
                    break
            numbers = [event["seq"] for event in seen]
            assert numbers == sorted(set(numbers)), "nothing twice, though the leader changed"
            assert {"connector_created", "group_created", "group_removed"} <= {e["what"] for e in seen}
        finally:
            following.send_signal(signal.SIGINT)
            try:
                following.wait(10)
            finally:
                following.kill()
                following.stdout.close()
