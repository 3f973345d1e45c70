"""Three coordinators on a real nats-server place pipelines on workers that speak the raw wire."""

import json
from collections import Counter
from pathlib import Path

import nats
from nats.aio.msg import Msg

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import PREFIX, FakeWorker, SeedWorker
from tests.unit.coordinator.three import Three, group, three


async def holds(stage: Three, worker: str, *, name: str = "g") -> bool:
    """Whether every pipeline of the group runs on that worker."""
    placements = await stage.placements(name)
    return all(each["worker_id"] == worker and each["status"] == "running" for each in placements)


async def test_a_registered_worker_gets_the_pipelines_of_a_group(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        assert worker.registered["heartbeat_interval_secs"] == 0.1
        assert worker.registered["lease_secs"] == 1.2
        answer = await stage.ask("POST", "/pipeline-groups", group("g", "a", "b"))
        assert answer.status_code == 201, answer.text
        assert answer.json()["status"] == "running"
        assert {body["name"] for body in worker.copies.values()} == {"a", "b"}
        deploys = worker.told("deploy")
        assert len({body["epoch"] for body in deploys}) == 2
        assert all(body["request_id"] and body["term"] for body in deploys)
        assert "hunter2" not in (await stage.ask("GET", "/workers")).text


async def test_a_seed_worker_is_a_full_member(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, SeedWorker("seed", nats_server.url) as worker:
        assert (await stage.ask("POST", "/pipeline-groups", group())).status_code == 201
        (copy,) = worker.copies
        injected = await stage.ask(
            "POST", "/pipeline-groups/g/inject", {"event_type": "In", "fields": {"x": 1}}
        )
        assert injected.json()["worker_response"]["output_events"] == [
            {"event_type": "Out", "fields": {"x": 1}}
        ]
        await worker.register()  # for a seed worker that means: it restarted
        await until(lambda: len(worker.told("deploy")) == 2, what="its pipeline deployed again")
        await stage.runs()
        assert copy in [body["pipeline_id"] for body in worker.told("undeploy")]
        assert (await stage.ask("DELETE", "/pipeline-groups/g")).json()["torn_down"] is True
        assert worker.copies == {}


async def test_the_pipelines_of_a_dead_worker_run_elsewhere_under_a_newer_epoch(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url) as first,
        FakeWorker("w2", nats_server.url) as second,
    ):
        spec = group("g", "a", "b")
        for pipeline in spec["pipelines"]:
            pipeline["worker_affinity"] = "w1"
        await stage.ask("POST", "/pipeline-groups", spec)
        assert len(first.copies) == 2
        before = max(each["epoch"] for each in await stage.placements())
        await first.stop()
        await until(lambda: holds(stage, "w2"), what="both on w2")
        assert min(each["epoch"] for each in await stage.placements()) > before
        assert len(second.copies) == 2


async def test_a_worker_that_comes_back_is_told_to_end_what_runs_elsewhere_now(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url) as first,
        FakeWorker("w2", nats_server.url),
    ):
        spec = group()
        spec["pipelines"][0]["worker_affinity"] = "w1"
        await stage.ask("POST", "/pipeline-groups", spec)
        await first.silence()
        await until(lambda: holds(stage, "w2"), what="it runs on w2")
        assert len(first.copies) == 1
        await first.speak()
        await until(lambda: not first.copies, what="w1 let its old copy go")
        assert await holds(stage, "w2")


async def test_a_leader_that_goes_leaves_nothing_undone(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        worker.mute.add("deploy")
        answer = await stage.ask("POST", "/pipeline-groups", group(), params={"wait": 0})
        assert answer.status_code == 202 and answer.json()["status"] == "deploying"
        await until(lambda: worker.told("deploy"), what="the deploy was sent")
        await stage.stop(stage.leader.config.node_id)
        worker.mute.clear()
        await stage.has_leader()
        await stage.runs()
        ids = {body["request_id"] for body in worker.told("deploy")}
        assert len(ids) == 1, "the new leader sends the same request again"
        assert len(worker.copies) == 1


async def test_a_copy_that_is_gone_is_deployed_again(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        await stage.ask("POST", "/pipeline-groups", group())
        worker.copies.clear()
        await until(lambda: len(worker.told("deploy")) == 2, what="deployed again")
        await stage.runs()
        first, second = worker.told("deploy")
        assert second["epoch"] > first["epoch"]


async def test_a_deploy_that_no_worker_takes_is_failed_with_its_reason(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        worker.refuse["deploy"] = {"error": "cannot reach Bus", "code": "engine_error", "retryable": False}
        answer = await stage.ask("POST", "/pipeline-groups", group())
        assert answer.status_code == 202
        assert answer.json()["status"] == "failed"
        assert "cannot reach Bus" in answer.json()["placements"][0]["reason"]


async def test_a_full_worker_s_refusal_sends_the_pipeline_to_another(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url) as first,
        FakeWorker("w2", nats_server.url),
    ):
        first.refuse["deploy"] = {"error": "full", "code": "quota_exceeded", "retryable": False}
        spec = group()
        spec["pipelines"][0]["worker_affinity"] = "w1"
        assert (await stage.ask("POST", "/pipeline-groups", spec)).status_code == 201
        assert await holds(stage, "w2")


async def test_pipelines_spread_and_wait_when_there_is_no_room(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url, max_pipelines=2) as first,
        FakeWorker("w2", nats_server.url, max_pipelines=2) as second,
    ):
        answer = await stage.ask(
            "POST", "/pipeline-groups", group("g", "a", "b", "c", "d", "e"), params={"wait": 0}
        )
        assert answer.status_code == 202
        await until(lambda: len(first.copies) == len(second.copies) == 2, what="both are full")

        async def explained() -> bool:
            waiting = [each for each in await stage.placements() if each["status"] == "pending"]
            return len(waiting) == 1 and "2 full" in (waiting[0]["reason"] or "")

        await until(explained, what="the fifth says why it waits")
        async with FakeWorker("w3", nats_server.url) as third:
            await stage.runs()
            assert len(third.copies) == 1


async def test_a_draining_worker_loses_its_pipelines(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url) as first,
        FakeWorker("w2", nats_server.url),
    ):
        spec = group()
        spec["pipelines"][0]["worker_affinity"] = "w1"
        await stage.ask("POST", "/pipeline-groups", spec)
        first.draining = True
        await until(lambda: holds(stage, "w2"), what="it runs on w2")
        assert (await stage.ask("GET", "/workers/w1")).json()["status"] == "draining"


async def test_an_unreachable_worker_does_not_hold_up_a_deletion_and_ends_its_copy_later(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, SeedWorker("seed", nats_server.url) as worker:
        await stage.ask("POST", "/pipeline-groups", group())
        await worker.silence()

        async def unhealthy() -> bool:
            return bool((await stage.ask("GET", "/workers/seed")).json()["status"] == "unhealthy")

        await until(unhealthy, what="the silent worker is unhealthy")
        answer = await stage.ask("DELETE", "/pipeline-groups/g")
        assert answer.status_code == 200
        assert len(worker.copies) == 1
        await worker.speak()
        await until(lambda: not worker.copies, what="it let go once it was back")


async def test_a_seed_worker_that_answers_undeploys_with_a_plain_error_does_not_hold_a_deletion_for_ever(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, SeedWorker("seed", nats_server.url) as worker:
        assert (await stage.ask("POST", "/pipeline-groups", group())).status_code == 201
        worker.refuse["undeploy"] = {"error": "Pipeline not found"}
        await stage.ask("DELETE", "/pipeline-groups/g", params={"wait": 0})

        async def gone() -> bool:
            return (await stage.ask("GET", "/pipeline-groups/g")).status_code == 404

        await until(gone, what="the group is gone")
        told = Counter(each["term"] for each in worker.told("undeploy"))
        assert told.total() >= 2 and max(told.values()) <= 6, "by each leader"


async def test_a_registration_is_answered_once_and_a_bad_one_says_what_is_wrong(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path), SeedWorker("w1", nats_server.url) as worker:
        client = await nats.connect(nats_server.url)
        answers: list[dict[str, object]] = []
        inbox = client.new_inbox()

        async def keep(message: Msg) -> None:
            answers.append(json.loads(message.data))

        await client.subscribe(inbox, cb=keep)
        good = json.dumps(worker.registration()).encode()
        bad = json.dumps({**worker.registration(), "worker_id": "w 1.x"}).encode()
        wrong = json.dumps({**worker.registration(), "capacity": {"cpu_cores": "two"}}).encode()
        huge = good.replace(b'"max_pipelines": 10', b'"max_pipelines": %d' % 2**70)
        for data in (good, bad, wrong, huge, b"{", b""):
            await client.publish(f"{PREFIX}.register", data, reply=inbox)
        await client.request(f"{PREFIX}.register", good, timeout=5)  # after it all others were handled
        await until(lambda: len(answers) == 6, what="one answer each")
        await client.close()
        assert sum(answer.get("status") == "registered" for answer in answers) == 1
        errors = [str(answer["error"]) for answer in answers if answer.get("code") == "bad_request"]
        assert len(errors) == 5
        assert any("$.worker_id" in error for error in errors)
        assert any("$.capacity.cpu_cores" in error for error in errors)
        assert any("$.capacity.max_pipelines" in error for error in errors)


async def test_only_the_leader_answers_a_heartbeat_and_tells_strangers_to_register(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        client = await nats.connect(nats_server.url)
        acks: list[dict[str, object]] = []
        inbox = client.new_inbox()

        async def keep(message: Msg) -> None:
            acks.append(json.loads(message.data))

        await client.subscribe(inbox, cb=keep)
        beat = {"events_processed": 0, "pipelines_running": 0, "incarnation": "i1", "seq": 1}
        for data in (b"nonsense", json.dumps(beat).encode()):
            await client.publish(f"{PREFIX}.heartbeat.stranger", data, reply=inbox)
        await until(lambda: acks, what="an answer")
        await client.close()
        assert len(acks) == 1
        directives = acks[0]["directives"]
        assert isinstance(directives, list) and directives[0]["do"] == "register"
        metrics = (await stage.ask("GET", "//metrics")).text
        assert 'bad_messages_total{kind="heartbeat",reason="bad_request"} 1.0' in metrics
        assert 'bad_messages_total{kind="heartbeat",reason="unknown_worker"} 1.0' in metrics
