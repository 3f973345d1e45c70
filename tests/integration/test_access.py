"""Keys on three real coordinators: who gets in where, what a revocation does, where a secret can be seen."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

from coordinator.app import Coordinator
from coordinator.security import keys
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, config, group, three
from transport.errors import ConfigError

ADMIN, WORKER = keys.new_key(), keys.new_key()


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Three]:
    (tmp_path / "admin").write_text(ADMIN.text + "\n")
    (tmp_path / "worker").write_text(WORKER.text + "\n")
    files = {"admin_key_file": tmp_path / "admin", "worker_key_file": tmp_path / "worker"}
    patient = {"heartbeat_timeout": 15.0}  # who has registered lives on, however busy the machine is
    async with three(nats_server.url, tmp_path, key=ADMIN.text, **files, **patient) as stage:
        yield stage


def under(key: keys.Key | str) -> dict[str, Any]:
    return {"headers": {"x-api-key": key if isinstance(key, str) else key.text}}


async def register(url: str, worker_id: str, key: str) -> dict[str, Any]:
    """The answer to a registration over NATS."""
    capacity = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 1}
    message = {"worker_id": worker_id, "address": "x", "api_key": key, "capacity": capacity}
    client = await nats.connect(url)
    try:
        data = json.dumps(message).encode()
        answer: dict[str, Any] = json.loads(
            (await client.request("varpulis.cluster.register", data, timeout=5)).data
        )
        return answer
    finally:
        await client.close()


async def made(stage: Three, role: str, **more: Any) -> keys.Key:
    answer = await stage.ask("POST", "/keys", {"role": role, **more})
    assert answer.status_code == 201, answer.text
    key = keys.parse_key(answer.json()["key"])
    assert key is not None
    return key


async def test_each_node_asks_for_a_key_and_takes_it_by_its_role(stage: Three) -> None:
    viewer = await made(stage, "viewer")
    for node in stage.nodes.values():
        for path in ("/workers", "/workers?consistency=stale", "/raft", "/keys"):
            none = await stage.http.get(f"{node.url}/api/v1/cluster{path}", headers={"x-api-key": ""})
            assert none.status_code == 401 and none.json()["code"] == "unauthorized", path
            assert "x-api-key" in none.headers["www-authenticate"]
        assert (await stage.ask("GET", "/workers", node=node, **under(viewer))).status_code == 200
        refused = await stage.ask("DELETE", "/workers/w1", node=node, **under(viewer))
        assert refused.status_code == 403 and "takes admin" in refused.json()["error"]
        assert (await stage.ask("GET", "/keys", node=node, **under(viewer))).status_code == 403
        assert (await stage.ask("DELETE", "/workers/w1", node=node)).status_code == 404, "the admin may"
        for probe in ("/livez", "/readyz", "/health", "/metrics", "/openapi.json"):
            open_to_all = await stage.http.get(node.url + probe, headers={"x-api-key": ""})
            assert open_to_all.status_code == 200, probe


async def test_a_key_counts_on_every_node_the_moment_it_is_made_and_on_none_once_it_is_revoked(
    stage: Three,
) -> None:
    for _ in range(5):
        key = await made(stage, "operator")
        for node in stage.nodes.values():
            assert (await stage.ask("GET", "/workers", node=node, **under(key))).status_code == 200
        assert (await stage.ask("DELETE", f"/keys/{key.id}", node=stage.follower)).status_code == 200
        for node in stage.nodes.values():
            assert (await stage.ask("GET", "/workers", node=node, **under(key))).status_code == 401


async def test_rotation_overlaps(stage: Three) -> None:
    old = await made(stage, "operator", note="the deploy job")
    answer = await stage.ask("POST", f"/keys/{old.id}/rotate", {"overlap_secs": 600})
    assert answer.status_code == 201
    new = answer.json()
    assert new["role"] == "operator"
    for key in (old.text, new["key"]):
        assert (await stage.ask("GET", "/workers", **under(key))).status_code == 200
    seen = (await stage.ask("GET", f"/keys/{old.id}")).json()
    assert seen["replaced_by"] == new["id"] and seen["status"] == "active" and seen["expires_at"]
    at_once = (await stage.ask("POST", f"/keys/{new['id']}/rotate", {})).json()
    assert (await stage.ask("GET", "/workers", **under(new["key"]))).status_code == 401
    assert (await stage.ask("GET", "/workers", **under(at_once["key"]))).status_code == 200


async def test_a_lost_answer_cannot_be_had_again_and_says_what_to_do(stage: Three) -> None:
    again: dict[str, Any] = {"headers": {"idempotency-key": "the-same"}}
    first = await stage.ask("POST", "/keys", {"role": "viewer"}, **again)
    second = await stage.ask("POST", "/keys", {"role": "viewer"}, node=stage.follower, **again)
    assert first.status_code == 201 and second.status_code == 409
    assert first.json()["id"] in second.json()["error"] and "revoke it" in second.json()["error"]
    assert len((await stage.ask("GET", "/keys")).json()["keys"]) == 3


async def test_the_last_admin_key_stays(stage: Three) -> None:
    answer = await stage.ask("DELETE", f"/keys/{ADMIN.id}")
    assert answer.status_code == 409 and "last admin key" in answer.json()["error"]
    other = await made(stage, "admin")
    assert (await stage.ask("DELETE", f"/keys/{ADMIN.id}", **under(other))).status_code == 200
    assert (await stage.ask("GET", "/keys")).status_code == 401
    for node_id in ("c0", "c1", "c2"):
        known = stage.nodes[node_id].config
        await stage.stop(node_id)
        files = {"admin_key_file": known.admin_key_file, "worker_key_file": known.worker_key_file}
        await stage.start(node_id, **files)
    stage.http.headers["x-api-key"] = other.text
    await stage.has_leader()
    assert (await stage.ask("GET", "/keys", **under(ADMIN))).status_code == 401, "a file brings nothing back"


async def test_a_worker_registers_with_its_key_and_with_no_other(
    stage: Three, nats_server: NatsServer
) -> None:
    viewer = await made(stage, "viewer")
    for wrong in ("", "nonsense", keys.new_key().text):
        answer = await register(nats_server.url, "w1", wrong)
        assert answer["code"] == "unauthorized"
        assert not wrong or wrong not in answer["error"]
    answer = await register(nats_server.url, "w1", viewer.text)
    assert answer["code"] == "forbidden" and "cannot register workers" in answer["error"]
    assert (await register(nats_server.url, "w1", WORKER.text))["status"] == "registered"
    listed = await stage.ask("GET", "/workers")
    assert [one["id"] for one in listed.json()["workers"]] == ["w1"]
    pages = [(await stage.http.get(node.url + "/metrics")).text for node in stage.nodes.values()]
    refused = [
        float(line.split()[-1])
        for page in pages
        for line in page.split("\n")
        if line.startswith('varpulis_cluster_bad_messages_total{kind="register",reason="unauthorized"}')
    ]
    assert sum(refused) == 3
    assert (await stage.ask("GET", "/workers", **under(WORKER))).status_code == 403
    beat = {"events_processed": 0, "pipelines_running": 0}
    assert (await stage.ask("POST", "/workers/w1/heartbeat", beat, **under(WORKER))).status_code == 200


async def test_a_bound_key_speaks_as_its_worker_over_both_carriers_and_as_nobody_else(
    stage: Three, nats_server: NatsServer
) -> None:
    assert (await stage.ask("POST", "/keys", {"role": "viewer", "worker": "w1"})).status_code == 400
    odd = await stage.ask("POST", "/keys", {"role": "worker", "worker": "a.b"})
    assert odd.status_code == 400 and "$.worker" in odd.json()["error"]
    bound = await made(stage, "worker", worker="edge-*")
    capacity = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 1}
    body = {"address": "x", "api_key": "", "capacity": capacity}
    beat = {"events_processed": 0, "pipelines_running": 0}

    async def joins(worker_id: str, key: keys.Key, node: Coordinator) -> int:
        asked = {**body, "worker_id": worker_id}
        return (await stage.ask("POST", "/workers/register", asked, node=node, **under(key))).status_code

    async def beats(worker_id: str, key: keys.Key, node: Coordinator) -> int:
        path = f"/workers/{worker_id}/heartbeat"
        return (await stage.ask("POST", path, beat, node=node, **under(key))).status_code

    for node in stage.nodes.values():
        assert await joins("edge-1", bound, node) == 201 and await beats("edge-1", bound, node) == 200
        assert await joins("core-1", bound, node) == 403
        assert await joins("core-1", WORKER, node) == 201 and await beats("core-1", WORKER, node) == 200
        assert await beats("core-1", bound, node) == 403
        assert await joins("edge-1", WORKER, node) == 403, "it lives, and came under the other key"
        assert await beats("edge-1", WORKER, node) == 403
    over_nats = await register(nats_server.url, "core-1", bound.text)
    assert over_nats["code"] == "forbidden" and "bound to worker edge-*" in over_nats["error"]
    rotated = (await stage.ask("POST", f"/keys/{bound.id}/rotate", {"overlap_secs": 60})).json()
    assert (await stage.ask("GET", f"/keys/{rotated['id']}")).json()["worker"] == "edge-*"
    assert (await register(nats_server.url, "edge-1", rotated["key"]))["status"] == "registered"

    async def in_the_trail() -> bool:
        events = (await stage.ask("GET", "/events?what=worker_refused")).json()["events"]
        return {event["about"] for event in events} == {"core-1", "edge-1"}

    await until(in_the_trail, timeout=5, what="both are told of")
    pages = [(await stage.http.get(node.url + "/metrics")).text for node in stage.nodes.values()]
    assert any('auth_refused_total{reason="another_worker"}' in page for page in pages)


async def test_no_secret_is_in_a_log_a_listing_an_error_or_the_trail(
    stage: Three, nats_server: NatsServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    operator = await made(stage, "operator", note="n")
    wrong = keys.Key(operator.id, keys.new_key().secret)
    seen = []
    for method, path, body, key in [
        ("POST", "/pipeline-groups", group(), operator),
        ("POST", "/pipeline-groups", group(), wrong),
        ("GET", "/keys", None, operator),
        ("GET", "/keys", None, ADMIN),
        ("GET", f"/keys/{operator.id}", None, ADMIN),
        ("DELETE", f"/keys/{operator.id}", None, ADMIN),
        ("POST", "/workers/register", {"api_key": operator.secret}, ADMIN),
    ]:
        seen += [
            (await stage.ask(method, path, body, node=node, **under(key))).text
            for node in stage.nodes.values()
        ]
    seen.append(str(await register(nats_server.url, "w2", wrong.text)))
    seen.append(str(await register(nats_server.url, "w2", WORKER.text)))
    leader = stage.leader._loop
    assert leader is not None
    for node in stage.nodes.values():
        seen.append((await stage.http.get(node.url + "/metrics")).text)
        seen.append(repr(node.config))
    trail = [event for event in leader._ledger.state.audit if event.what.startswith("key_")]
    assert {event.by for event in trail} == {"key_file", f"api:{ADMIN.id}"}
    seen += [caplog.text, repr(leader._ledger.state), json.dumps([str(event) for event in trail])]
    on_disk = _files_below(tmp_path)
    assert on_disk
    for secret in (ADMIN.secret, WORKER.secret, operator.secret, wrong.secret):
        assert not any(secret in text for text in seen)
        assert not any(secret.encode() in data for data in on_disk)


async def test_a_flood_of_one_key_is_told_to_wait_and_nobody_else_is(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "admin").write_text(ADMIN.text)
    limits = {"rate_limit": 0.5, "rate_burst": 60.0, "admin_key_file": tmp_path / "admin"}
    async with three(nats_server.url, tmp_path, key=ADMIN.text, **limits) as stage:
        viewer = await made(stage, "viewer")
        node = stage.leader
        answers = await asyncio.gather(
            *(stage.ask("GET", "/summary", node=node, **under(viewer)) for _ in range(80))
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) in range(60, 63) and set(statuses) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["retry-after"]) in (1, 2), "of two seconds some may be over"
        assert (await stage.ask("GET", "/summary", node=node)).status_code == 200


async def test_pages_from_elsewhere_get_nothing(stage: Three) -> None:
    node = stage.leader
    base = f"{node.url}/api/v1/cluster"
    host = node.url.removeprefix("http://")
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    foreign: list[tuple[str, dict[str, str]]] = [
        ("OPTIONS", preflight),
        ("GET", {"origin": "https://evil.example"}),
        ("POST", {"origin": "null"}),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
    ]
    for method, headers in foreign:
        answer = await stage.http.request(method, f"{base}/workers", headers=headers)
        assert answer.status_code == 403, headers
        assert not any(name.startswith("access-control-") for name in answer.headers)
    for scheme in ("http", "https"):  # the latter through a proxy that does the TLS
        own = await stage.http.get(f"{base}/workers", headers={"origin": f"{scheme}://{host}"})
        assert own.status_code == 200
        assert not any(name.startswith("access-control-") for name in own.headers)


async def test_where_nobody_is_asked_for_a_key_browsers_must_use_a_name_of_this_machine(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        url = f"{stage.leader.url}/api/v1/cluster/workers"
        browser = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64)"}
        rebound = {"host": "rebound.example"}
        assert (await stage.http.get(url, headers={**browser, **rebound})).status_code == 403
        assert (await stage.http.get(url, headers=rebound)).status_code == 200, (
            "a program may call us anything"
        )
        for name in ("localhost", "localhost:9100", "127.0.0.1:1", "[::1]:9100"):
            assert (await stage.http.get(url, headers={**browser, "host": name})).status_code == 200, name


async def test_a_key_file_that_holds_another_secret_under_a_known_id_is_told_of(
    stage: Three, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "forged").write_text(keys.Key(ADMIN.id, keys.new_key().secret).text)
    await stage.stop("c1")
    await stage.start("c1", admin_key_file=tmp_path / "forged")

    async def told() -> bool:
        return "key_file_ignored" in caplog.text

    await until(told, timeout=15, what="the log line")
    assert (await stage.ask("GET", "/keys", node=stage.nodes["c1"])).status_code == 200


@pytest.mark.parametrize("setting", ["admin_key_file", "worker_key_file", "cluster_key_file"])
async def test_a_file_that_holds_no_key_keeps_the_coordinator_from_starting_and_is_not_quoted(
    nats_server: NatsServer, tmp_path: Path, setting: str
) -> None:
    (tmp_path / "wrong").write_text("hunter2 is no key")
    for path, says in ((tmp_path / "wrong", "varpulis key new"), (tmp_path / "none", "cannot be read")):
        node = Coordinator(config("c0", nats_server.url, tmp_path, members=("c0",), **{setting: path}))
        with pytest.raises(ConfigError, match=str(path)) as caught:
            await node.start()
        assert says in str(caught.value) and "hunter2" not in str(caught.value)


def _files_below(directory: Path) -> list[bytes]:
    """What lies in the data directories; the key files themselves lie beside them."""
    found = (path for path in directory.rglob("*") if path.is_file() and path.parent != directory)
    return [path.read_bytes() for path in found]


async def test_a_stream_ends_with_the_key_it_was_opened_with_and_goes_on_for_others(stage: Three) -> None:
    first, second = await made(stage, "viewer"), await made(stage, "viewer", expires_in_secs=2)
    for node in stage.nodes.values():
        assert node._streams is not None
        node._streams._heartbeat = 0.1
    ends: dict[str, asyncio.Task[str]] = {}

    async def listen(node: Coordinator, key: keys.Key) -> str:
        """What came, once it has ended."""
        url = node.url + "/api/v1/cluster/stream"
        async with stage.http.stream("GET", url, headers={"x-api-key": key.text}) as answer:
            assert answer.status_code == 200
            return "".join([part async for part in answer.aiter_text()])

    for number, node in enumerate(stage.nodes.values()):
        ends[f"revoked-{number}"] = asyncio.create_task(listen(node, first))
        ends[f"expired-{number}"] = asyncio.create_task(listen(node, second))
        ends[f"admin-{number}"] = asyncio.create_task(listen(node, ADMIN))
    try:
        hubs = [node._streams for node in stage.nodes.values()]
        await until(lambda: all(hub and hub.clients == 3 for hub in hubs), what="all listen")
        assert (await stage.ask("DELETE", f"/keys/{first.id}")).status_code == 200
        await until(
            lambda: all(task.done() for name, task in ends.items() if not name.startswith("admin")),
            timeout=10,
            what="the streams of keys that count no longer have ended",
        )
        for name, task in ends.items():
            if name.startswith("admin"):
                assert not task.done(), "nobody else is disturbed"
            else:
                assert task.result().rstrip().endswith('counts no longer: come with another"}'), name
    finally:
        for task in ends.values():
            task.cancel()
        await asyncio.gather(*ends.values(), return_exceptions=True)
