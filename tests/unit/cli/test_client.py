"""A client that outlives any coordinator: who is asked, how often, and what a failure says."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.client import ClusterClient, Refused, Unreachable
from cli.errors import CliError, UsageError
from cli.http import Answer, Connections, NoAnswer, NotListening

A, B = "http://a:1", "http://b:2"


def says(status: int, document: Any) -> Answer:
    return Answer(status, json.dumps(document).encode())


UNAVAILABLE = says(503, {"error": "no leader yet", "code": "unavailable", "retryable": True})


@dataclass
class Request:
    url: str
    headers: Mapping[str, str]
    timeout: float


class Coordinators:
    """Stand-ins by host: each gives its answers in turn, the last one for ever."""

    def __init__(self, **answers: list[Answer | Exception]) -> None:
        self.requests: list[Request] = []
        self._answers = answers

    def __call__(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        self.requests.append(Request(url, headers, timeout))
        answers = self._answers[url[7]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, timeout: float = 5.0) -> ClusterClient:
        return ClusterClient([A, B], timeout=timeout, exchange=self)


def hosts(coordinators: Coordinators) -> list[str]:
    return [request.url[7] for request in coordinators.requests]


def test_the_next_coordinator_is_asked_when_one_does_not_listen() -> None:
    coordinators = Coordinators(a=[NotListening("refused")], b=[says(200, {"total": 1})])
    assert coordinators.client().get("/workers", limit=5) == {"total": 1}
    assert hosts(coordinators) == ["a", "b"]
    assert coordinators.requests[1].url == f"{B}/api/v1/cluster/workers?limit=5"


def test_who_answered_last_is_asked_first_and_the_others_when_it_does_not() -> None:
    cut_off: list[Answer | Exception] = [NoAnswer("silent")]
    coordinators = Coordinators(
        a=cut_off, b=[says(200, {}), says(200, {}), NotListening("refused"), UNAVAILABLE]
    )
    client = coordinators.client(timeout=0.5)
    client.get("/workers")
    client.get("/workers")
    assert hosts(coordinators) == ["a", "b", "b"]
    cut_off[0] = says(200, {})
    client.get("/workers")
    client.get("/workers")
    assert hosts(coordinators)[3:] == ["b", "a", "a"]


def test_nobody_listening_fails_at_once_with_a_remedy() -> None:
    refused: list[Answer | Exception] = [NotListening("refused")]
    coordinators = Coordinators(a=refused, b=list(refused))
    with pytest.raises(Unreachable, match="start one with `varpulis up`"):
        coordinators.client(timeout=60).get("/workers")
    assert hosts(coordinators) == ["a", "b"]


def test_an_election_is_waited_out() -> None:
    coordinators = Coordinators(a=[UNAVAILABLE], b=[UNAVAILABLE, says(200, {})])
    assert coordinators.client().get("/workers") == {}
    assert hosts(coordinators) == ["a", "b", "a", "b"]


def test_a_write_keeps_its_idempotency_key_through_all_tries() -> None:
    coordinators = Coordinators(a=[UNAVAILABLE], b=[NoAnswer("lost"), UNAVAILABLE, says(201, {"name": "g"})])
    coordinators.client(timeout=10).post("/pipeline-groups", {"name": "g"})
    keys = {request.headers["Idempotency-Key"] for request in coordinators.requests}
    assert len(coordinators.requests) == 6
    assert len(keys) == 1


def test_two_writes_have_two_keys_and_a_read_has_none() -> None:
    coordinators = Coordinators(a=[says(200, {})], b=[UNAVAILABLE])
    client = coordinators.client()
    client.post("/pipeline-groups", {})
    client.delete("/pipeline-groups/g")
    client.get("/workers")
    first, second, third = coordinators.requests
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    assert "Idempotency-Key" not in third.headers


def test_patience_ends_with_the_deadline_and_tells_the_last_answer() -> None:
    coordinators = Coordinators(a=[UNAVAILABLE], b=[UNAVAILABLE])
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no leader yet"):
        coordinators.client(timeout=0.3).get("/workers")
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500])
def test_a_refusal_is_final_and_keeps_its_code(status: int) -> None:
    no = says(status, {"error": "name it otherwise", "code": "conflict"})
    coordinators = Coordinators(a=[no], b=[UNAVAILABLE])
    with pytest.raises(Refused, match="name it otherwise") as refused:
        coordinators.client().post("/pipeline-groups", {})
    assert (refused.value.code, refused.value.status) == ("conflict", status)
    assert hosts(coordinators) == ["a"]


def test_diagnostics_of_a_program_come_with_the_refusal() -> None:
    finding = {
        "severity": "error",
        "line": 2,
        "column": 5,
        "message": "unknown function",
        "hint": "contains?",
    }
    no = says(422, {"error": "bad VPL", "code": "parse_error", "diagnostics": [finding]})
    with pytest.raises(Refused) as refused:
        Coordinators(a=[no], b=[UNAVAILABLE]).client().post("/pipeline-groups", {})
    assert (refused.value.diagnostics[0].line, refused.value.diagnostics[0].hint) == (2, "contains?")


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff"])
def test_a_server_that_is_no_coordinator_is_named(body: bytes) -> None:
    for status in (200, 404):
        coordinators = Coordinators(a=[Answer(status, body)], b=[UNAVAILABLE])
        with pytest.raises(CliError, match="is a coordinator at this URL"):
            coordinators.client().get("/workers")


def test_a_coordinator_that_froze_leaves_time_for_the_others() -> None:
    coordinators = Coordinators(a=[NoAnswer("timed out")], b=[says(200, {})])
    assert coordinators.client(timeout=10).post("/pipeline-groups", {}, wait=4) == {}
    assert coordinators.requests[0].timeout == pytest.approx(4 + 3)


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent; closes the connection after each answer when asked to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        if "then-close" in self.path:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "then" in self.path

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
        thread = threading.Thread(target=echo.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{echo.server_port}"
        echo.shutdown()
        thread.join()


@pytest.fixture
def connections() -> Iterator[Connections]:
    kept = Connections()
    yield kept
    kept.close()


def test_an_exchange_carries_body_and_status(server: str, connections: Connections) -> None:
    for _ in range(2):
        assert connections("POST", f"{server}/x?y=1", body=b"hello", timeout=5) == Answer(201, b"hello")


def test_a_connection_that_the_server_closed_is_made_anew(server: str, connections: Connections) -> None:
    for _ in range(3):
        assert connections("POST", f"{server}/then-close", body=b"hello", timeout=5).status == 201


def test_a_connection_that_the_server_dropped_without_a_word_is_made_anew(
    server: str, connections: Connections
) -> None:
    connections("POST", f"{server}/then-drop", body=b"hello", timeout=5)

    def answered() -> bool:
        try:
            return connections("POST", f"{server}/x", body=b"hello", timeout=5).status == 201
        except NoAnswer:
            return False

    assert answered() or answered()


def test_a_port_where_nobody_listens_is_told_apart_from_a_silent_one(connections: Connections) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NotListening, match="refused"):
            connections("GET", url, timeout=5)
        silent.listen()
        with pytest.raises(NoAnswer, match="timed out"):
            connections("GET", url, timeout=0.1)


def test_a_connection_that_does_not_come_about_is_given_up_long_before_an_answer(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.http.CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotListening, match="timed out"):
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        connections("GET", url, timeout=100)


def test_an_answer_that_is_no_http_is_no_answer(connections: Connections) -> None:
    with socket.socket() as odd:
        odd.bind(("127.0.0.1", 0))
        odd.listen()

        def babble() -> None:
            peer, _ = odd.accept()
            with peer:
                peer.sendall(b"INFO {}\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(NoAnswer):
            connections("GET", f"http://127.0.0.1:{odd.getsockname()[1]}", timeout=5)
        thread.join()


@pytest.mark.parametrize(
    "url", ["", "a:1", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a b", "http://ä"]
)
def test_what_is_no_url_is_wrong_usage(url: str, connections: Connections) -> None:
    with pytest.raises(UsageError, match="is no URL of a coordinator"):
        connections("GET", url, timeout=1)
