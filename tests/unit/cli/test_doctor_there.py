"""What `varpulis doctor` sees of a cluster: stand-ins answer as coordinators, workers and NATS would."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.clocks import clocks
from cli.doctor.coordinators import coordinators, workers
from cli.doctor.findings import Finding, Result
from cli.doctor.ids import ids
from cli.doctor.nats import nats, version
from cli.doctor.peers import Clock
from cli.doctor.site import Site
from cli.doctor.software import versions
from cli.invocation import Invocation
from cli.resolve import Settings
from proto_schemas.rest.base import API_BASE
from tests.support.ports import free_port
from tests.unit.cli.stand_in import Coordinator, served


@pytest.fixture(autouse=True)
def quick_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.doctor.peers.LOOK_EVERY", 0.0)


class Node(Coordinator):
    """A coordinator that is well; change `health` and `raft` to what it is to say."""

    def __init__(self, node_id: str, leader: str | None = "c1") -> None:
        super().__init__()
        self.health: dict[str, Any] = {
            "node_id": node_id,
            "cluster_id": "one",
            "version": "0.1.0",
            "leader_id": leader,
            "is_leader": node_id == leader,
            "term": 4,
        }
        self.reason = ""
        self.raft: dict[str, Any] = {
            "this_node_id": node_id,
            "leader_id": leader,
            "learners": [],
            "failure": None,
            "nodes": [member("c1"), member("c2")],
        }
        self.refusal: dict[str, Any] | None = None
        self.pages: dict[str, Any] = {
            "/workers": {"workers": []},
            "/pipeline-groups": {"pipeline_groups": []},
        }

    def tell(self, method: str, path: str) -> tuple[int, bytes]:
        below = path.removeprefix(API_BASE)
        if path == "/health":
            return 200, json.dumps(self.health).encode()
        if path == "/readyz" and self.reason:
            return 503, json.dumps({"error": self.reason, "code": "unavailable"}).encode()
        if path != below and self.refusal:
            return 401, json.dumps(self.refusal).encode()
        if below == "/raft":
            return 200, json.dumps(self.raft).encode()
        return 200, json.dumps(self.pages.get(below, "ok")).encode()


def member(name: str, url: str | None = None, **changed: Any) -> dict[str, Any]:
    return {"id": name, "role": "follower", "lag": 0, "last_contact_ms": 20, "url": url, **changed}


@contextlib.contextmanager
def two() -> Iterator[tuple[Node, Node]]:
    with served(Node("c1")) as first, served(Node("c2")) as second:
        yield first, second


def site(*urls: str, **environ: str) -> Site:
    return Site(Invocation(Settings(environ={"VARPULIS_URL": ",".join(urls), **environ})))


def told(findings: Any, result: Result = Result.FAULT) -> str:
    found: list[Finding] = list(findings)
    return "\n".join(f"{one.about}: {one.found}: {one.remedy}" for one in found if one.result is result)


# -- coordinators


def test_a_cluster_that_is_well_has_neither_fault_nor_warning() -> None:
    with two() as (first, second):
        found = list(coordinators(site(first.url, second.url)))
    assert {one.result for one in found} == {Result.OK}
    assert "leads, term 4" in told(found, Result.OK) and "follows c1" in told(found, Result.OK)
    assert "all that answer name c1, term 4" in told(found, Result.OK)


def test_one_that_does_not_answer_is_a_fault_and_the_others_are_looked_at() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with served(Node("c1")) as first:
        found = list(coordinators(site(nobody, first.url)))
    assert f"{nobody}: Connection refused" in told(found)
    assert f"c1 ({first.url})" in told(found, Result.OK)


def test_one_that_others_tell_of_is_looked_at_though_nobody_named_it() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with served(Node("c1")) as first:
        first.raft["nodes"] = [member("c1", first.url), member("c2", nobody)]
        said = told(coordinators(site(first.url)))
    assert f"{nobody}, of which others tell: Connection refused" in said


def test_another_server_at_the_url_is_a_fault() -> None:
    with served(Coordinator()) as server:
        server.status, server.answer = 404, b"<html>"
        assert "is another server there?" in told(coordinators(site(server.url)))


def test_one_that_is_not_ready_is_a_fault_with_its_reason() -> None:
    with two() as (first, second):
        second.reason = "no connection to NATS"
        assert "is not ready: no connection to NATS" in told(coordinators(site(first.url, second.url)))


def test_coordinators_of_two_clusters_are_a_fault_and_so_is_another_than_the_settings_say() -> None:
    with two() as (first, second):
        second.health["cluster_id"] = "two"
        said = told(coordinators(site(first.url, second.url, VARPULIS_CLUSTER_ID="three")))
    assert f"{first.url} is of one, {second.url} is of two" in said
    assert "the settings say three, the coordinators one, two" in said


def test_two_leaders_or_terms_are_a_warning_and_none_a_fault() -> None:
    with two() as (first, second):
        second.health |= {"leader_id": "c2", "term": 5}
        found = list(coordinators(site(first.url, second.url)))
        assert "do not agree: c1: c1 in term 4, c2: c2 in term 5" in told(found, Result.WARNING)
        first.health["leader_id"] = second.health["leader_id"] = None
        assert "leader: nobody leads" in told(coordinators(site(first.url, second.url)))


def test_a_key_that_is_not_taken_is_a_fault_with_the_clusters_words_and_never_shown() -> None:
    with served(Node("c1")) as first:
        first.refusal = {"error": "this key is unknown", "code": "unauthorized"}
        found = list(coordinators(site(first.url, VARPULIS_API_KEY="hunter2")))
    assert "our key: HTTP 401: this key is unknown" in told(found)
    assert "hunter2" in first.keys and "hunter2" not in repr(found)


def test_the_leader_tells_who_is_silent_behind_or_still_coming() -> None:
    with served(Node("c1")) as first:
        first.raft["nodes"] = [
            member("c1"),
            member("c2", last_contact_ms=7000),
            member("c3", lag=5000),
            member("c4", last_contact_ms=None),
        ]
        first.raft["learners"] = ["c5"]
        found = list(coordinators(site(first.url)))
    assert "member c2: not heard for 7.0 s" in told(found) and "member c4: never heard" in told(found)
    assert "c3: is 5000 entries behind" in told(found, Result.WARNING)
    assert "c5: is being added" in told(found, Result.WARNING)


def test_one_that_has_withdrawn_is_a_fault_with_its_cause() -> None:
    with served(Node("c1")) as first:
        first.raft["failure"] = "No space left on device"
        assert "c1: has withdrawn: No space left on device" in told(coordinators(site(first.url)))


def test_an_id_that_answers_at_two_urls_is_a_fault() -> None:
    with served(Node("c1")) as first, served(Node("c1")) as again:
        assert f"answers at {first.url} and {again.url}" in told(ids(site(first.url, again.url)))


def test_a_coordinator_that_is_no_member_is_told_how_to_become_one() -> None:
    own = {"VARPULIS_COORDINATOR_ID": "c9", "VARPULIS_COORDINATOR_MEMBERS": "c1,c2"}
    with served(Node("c1")) as first:
        said = told(ids(site(first.url, **own)), Result.WARNING)
    assert "c9: is no member: those are c1, c2" in said and "varpulis raft add c9" in said


@pytest.mark.parametrize(("host", "warned"), [("192.0.2.7", True), ("127.0.0.1", False)])
def test_a_worker_of_our_workers_name_on_another_machine_is_a_warning(host: str, warned: bool) -> None:
    with served(Node("c1")) as first:
        first.pages["/workers"] = {"workers": [worker("w1", address=f"http://{host}:9")]}
        said = told(ids(site(first.url, VARPULIS_WORKER_ID="w1")), Result.WARNING)
    assert ("w1: runs at http://192.0.2.7:9" in said) == warned


def test_other_versions_among_the_coordinators_are_a_warning() -> None:
    with two() as (first, second):
        second.health["version"] = "0.0.9"
        said = told(versions(site(first.url, second.url)), Result.WARNING)
    assert "0.0.9" in said and "finish the upgrade" in said


# -- workers


def worker(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": name,
        "status": "ready",
        "cordoned": False,
        "last_heartbeat_age_ms": 300,
        "pipelines_running": 2,
        "address": "nats",
        **changed,
    }


def test_workers_are_ok_cordoned_or_not_heard() -> None:
    with served(Node("c1")) as first:
        listed = [worker("w1"), worker("w2", cordoned=True), worker("w3", status="unhealthy")]
        first.pages["/workers"] = {"workers": listed}
        found = list(workers(site(first.url)))
    assert "w1: ready, heard 0.3 s ago, 2 pipelines" in told(found, Result.OK)
    assert "w2: is cordoned" in told(found, Result.WARNING)
    assert "w3: unhealthy" in told(found, Result.WARNING)


def test_no_workers_at_all_is_a_warning_and_no_coordinator_is_no_look() -> None:
    with served(Node("c1")) as first:
        assert "there are none" in told(workers(site(first.url)), Result.WARNING)
    nobody = site(f"http://127.0.0.1:{free_port()}")
    assert "no coordinator tells us" in told(workers(nobody), Result.SKIPPED)


# -- clocks


def test_looks_at_a_clock_narrow_what_is_known_of_it() -> None:
    clock = Clock()
    assert not clock.known and clock.least == 0
    clock.look("Thu, 01 Jan 1970 00:01:40 GMT", sent=99.0, came=99.2)
    assert (round(clock.low, 3), round(clock.high, 3)) == (0.8, 3.0)
    clock.look("Thu, 01 Jan 1970 00:01:41 GMT", sent=100.9, came=101.0)
    assert (round(clock.low, 3), round(clock.high, 3)) == (0.8, 2.1)
    clock.look("yesterday", sent=0, came=0)
    assert (round(clock.low, 3), round(clock.high, 3)) == (0.8, 2.1)


@pytest.mark.parametrize(
    ("ahead", "result"),
    [(0.0, Result.OK), (10.0, Result.WARNING), (-10.0, Result.WARNING), (3600.0, Result.FAULT)],
)
def test_a_clock_that_is_wrong_is_judged_by_what_it_breaks(ahead: float, result: Result) -> None:
    with served(Node("c1")) as first:
        first.ahead = ahead
        found = list(clocks(site(first.url)))
    assert f"c1 ({first.url})" in told(found, result)


def test_clocks_that_differ_by_less_from_ours_than_from_each_other_are_told_together() -> None:
    with two() as (first, second):
        first.ahead, second.ahead = -20.0, 20.0
        said = told(clocks(site(first.url, second.url)))
    assert f"c1 ({first.url}) and c2 ({second.url}): at least 3" in said


def test_the_clock_of_a_worker_that_serves_http_is_looked_at_as_well() -> None:
    with served(Node("c1")) as first, served(Node("w1")) as other:
        other.health = {"worker_id": "w1"}
        other.ahead = 3600.0
        first.pages["/workers"] = {"workers": [worker("w1", address=other.url)]}
        assert f"w1 ({other.url})" in told(clocks(site(first.url)))


# -- nats


@contextlib.contextmanager
def greeting(text: bytes) -> Iterator[str]:
    """A server that says only this, to everybody; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def seen(*urls: str, **environ: str) -> list[Finding]:
    nobody = f"http://127.0.0.1:{free_port()}"
    return list(nats(site(nobody, VARPULIS_NATS_URL=",".join(urls), **environ)))


def test_a_server_that_is_not_there_is_a_fault() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    assert f"{url}: no nats-server greets there: Connection refused" in told(seen(url))


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {broken\r\n", b""])
def test_what_is_no_nats_server_is_told_so(text: bytes) -> None:
    with greeting(text) as url:
        assert "no nats-server greets there" in told(seen(url))


def test_an_old_server_one_of_small_messages_and_two_that_are_no_cluster_are_told() -> None:
    old = {"server_id": "A", "version": "2.1.0", "max_payload": 1000}
    young = {"server_id": "B", "version": "2.12.0", "max_payload": 100_000, "cluster": "x"}
    with (
        greeting(f"INFO {json.dumps(old)}\r\n".encode()) as first,
        greeting(f"INFO {json.dumps(young)}\r\n".encode()) as second,
    ):
        found = seen(first, second, VARPULIS_NATS_CONNECT_TIMEOUT="0.2")
    assert "is nats-server 2.1.0" in told(found) and "takes messages of 1000 bytes" in told(found)
    assert "takes messages of 100000 bytes" in told(found, Result.WARNING)
    assert f"are not one cluster ({first}: no cluster, {second}: x)" in told(found)


def test_a_cluster_elsewhere_of_which_only_urls_are_known_has_no_nats_for_us() -> None:
    found = list(nats(site(f"http://127.0.0.1:{free_port()}")))
    assert "the settings name no NATS server" in told(found, Result.SKIPPED)


def test_a_worker_that_speaks_rest_needs_no_nats() -> None:
    own = {"VARPULIS_WORKER_ID": "w1", "VARPULIS_WORKER_COORDINATORS": "https://c:1"}
    assert {one.result for one in nats(site("http://127.0.0.1:1", **own))} == {Result.SKIPPED}


@pytest.mark.parametrize(("text", "numbers"), [("2.10.3", (2, 10)), ("2.9", (2, 9)), ("?", (0, 0))])
def test_versions_are_compared_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers
