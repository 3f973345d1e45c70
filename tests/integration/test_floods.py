"""Floods from outside: what strangers can grow is bounded, and who belongs here is not disturbed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.security import keys
from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, group, three
from tests.unit.worker.support import bare_client, config
from worker.app import Worker

P = "varpulis.cluster"
ROOM = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 5}
ADMIN, WORKER = keys.new_key(), keys.new_key()


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Three]:
    (tmp_path / "admin").write_text(ADMIN.text + "\n")
    (tmp_path / "worker").write_text(WORKER.text + "\n")
    files = {"admin_key_file": tmp_path / "admin", "worker_key_file": tmp_path / "worker"}
    patient = {"heartbeat_timeout": 6.0}  # many heartbeats, of which a busy machine may be late with some
    async with three(nats_server.url, tmp_path, key=ADMIN.text, **files, **patient) as stage:
        yield stage


async def test_a_flood_of_strangers_costs_no_worker_its_place_and_no_user_his_answer(
    stage: Three, nats_server: NatsServer, tmp_path: Path
) -> None:
    """12,000 invented workers with large heartbeats, garbage on every subject, registrations with wrong keys,
    while a worker registers, gets a pipeline and keeps it."""
    worker = Worker(config(nats_server, tmp_path, api_key=WORKER.text))
    large = json.dumps({"pipeline_id": "x" * 200, "group": "g", "name": "n", "epoch": 1})
    beat = f'{{"events_processed":0,"pipelines_running":9,"pipelines":[{",".join([large] * 9)}]}}'.encode()
    stranger = {"address": "", "api_key": "vk_0123456789ab_wrong", "capacity": ROOM}
    async with bare_client(nats_server) as client:

        async def flood() -> None:
            for number in range(12_000):
                await client.publish(f"{P}.heartbeat.s{number}", beat)
                await client.publish(f"{P}.heartbeat.s{number % 50}.x", b"{")
                await client.publish(f"{P}.raft.{stage.leader.config.node_id}.append", b"\xff" * 40)
                if number % 100 == 0:
                    body = json.dumps({"worker_id": f"s{number}", **stranger}).encode()
                    await client.publish(f"{P}.register", body, reply="_INBOX.nobody")
                    await client.flush()

        flooding = asyncio.create_task(flood())
        await worker.start()
        try:
            await until(lambda: worker.health()["ready"], what="the registration")
            made = await stage.ask("POST", "/pipeline-groups", group())
            assert made.json()["status"] == "running", made.text
            before = await stage.placements()
            await flooding
            listener = stage.leader._listener
            assert listener is not None
            await until(lambda: listener._table.untracked > 0, what="the strangers have all been heard")
            place = f"/workers/{worker.config.worker_id}"

            async def on_time() -> bool:
                return bool((await stage.ask("GET", place)).json()["status"] == "ready")

            await until(on_time, what="a heartbeat of it that is not late")
            events = (await stage.ask("GET", "/events", params={"limit": 1000})).json()["events"]
            assert "worker_unhealthy" not in {event["what"] for event in events}, "it was never given up"
            assert await stage.placements() == before
            assert (await stage.ask("GET", "/workers")).json()["total"] == 1, "no stranger was taken in"
            bad = listener.bad_messages
            assert bad["heartbeat", "bad_subject"] > 0 and bad["heartbeat", "unknown_worker"] > 10_000
            counts = [node._listener.bad_messages for node in stage.nodes.values() if node._listener]
            refused = sum(
                each["register", "unauthorized"] + each["register", "rate_limited"] for each in counts
            )
            assert refused > 50
            known = listener._table.get("s0")
            assert known is not None and known.pipelines is None, "of a stranger nothing is kept"
        finally:
            flooding.cancel()
            await worker.stop()


async def test_one_key_cannot_keep_the_others_from_listening(stage: Three, monkeypatch: Any) -> None:
    node = stage.leader
    monkeypatch.setattr(node._streams, "_max_of_one", 2)
    answer = await stage.ask("POST", "/keys", {"role": "viewer"})
    viewer = {"x-api-key": answer.json()["key"]}
    url = node.url + API_BASE + "/stream"
    async with (
        httpx.AsyncClient(trust_env=False, timeout=5) as http,
        http.stream("GET", url, headers=viewer),
        http.stream("GET", url, headers=viewer),
    ):
        refused = await http.get(url, headers=viewer)
        assert refused.status_code == 429 and refused.json()["code"] == "rate_limited"
        assert "2 clients listen already" in refused.text and refused.headers["retry-after"] == "1"
        async with http.stream("GET", url, headers={"x-api-key": ADMIN.text}) as other:
            assert other.status_code == 200


async def test_slow_heads_and_bodies_hold_up_nobody(stage: Three) -> None:
    """Connections that never finish a request, each with a part of a head or of a body."""
    port = int(stage.leader.url.rsplit(":", 1)[1])
    parts = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"]
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
    for number, (_, writer) in enumerate(opened):
        writer.write(parts[number % 2])
    try:
        for _ in range(20):
            assert (await stage.ask("GET", "/summary")).status_code == 200
    finally:
        for _, writer in opened:
            writer.close()
