"""Three coordinators on a real nats-server place pipelines on workers that speak the raw wire."""

from pathlib import Path

from tests.support.nats_server import NatsServer
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import group, three


async def test_a_registered_worker_gets_the_pipelines_of_a_group(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        assert worker.registered["heartbeat_interval_secs"] == 0.1
        answer = await stage.ask("POST", "/pipeline-groups", group("g", "a", "b"))
        assert answer.status_code == 201, answer.text
        assert answer.json()["status"] == "running"
        assert {body["name"] for body in worker.copies.values()} == {"a", "b"}
        deploys = worker.told("deploy")
        assert len({body["epoch"] for body in deploys}) == 2
        assert all(body["request_id"] and body["term"] for body in deploys)
