"""A client that outlives any coordinator: who is asked, how often, and what a failure says."""

import time

import httpx
import pytest

from cli.client import ClusterClient, Refused, Unreachable
from cli.errors import CliError

A, B = "http://a:1", "http://b:2"
UNAVAILABLE = httpx.Response(503, json={"error": "no leader yet", "code": "unavailable", "retryable": True})


class Coordinators:
    """Stand-ins by host: each takes its answers in turn, the last one for ever."""

    def __init__(self, **answers: list[httpx.Response | Exception]) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answers = self._answers[request.url.host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content)

    def client(self, timeout: float = 5.0) -> ClusterClient:
        return ClusterClient([A, B], timeout=timeout, transport=httpx.MockTransport(self))


def hosts(coordinators: Coordinators) -> list[str]:
    return [request.url.host for request in coordinators.requests]


def test_the_next_coordinator_is_asked_when_one_does_not_listen() -> None:
    coordinators = Coordinators(a=[httpx.ConnectError("refused")], b=[httpx.Response(200, json={"total": 1})])
    assert coordinators.client().get("/workers", limit=5) == {"total": 1}
    assert hosts(coordinators) == ["a", "b"]
    assert str(coordinators.requests[1].url) == f"{B}/api/v1/cluster/workers?limit=5"


def test_nobody_listening_fails_at_once_with_a_remedy() -> None:
    refused: list[httpx.Response | Exception] = [httpx.ConnectError("refused")]
    coordinators = Coordinators(a=refused, b=list(refused))
    with pytest.raises(Unreachable, match="start one with `varpulis up`"):
        coordinators.client(timeout=60).get("/workers")
    assert hosts(coordinators) == ["a", "b"]


def test_an_election_is_waited_out() -> None:
    coordinators = Coordinators(a=[UNAVAILABLE], b=[UNAVAILABLE, httpx.Response(200, json={})])
    assert coordinators.client().get("/workers") == {}
    assert hosts(coordinators) == ["a", "b", "a", "b"]


def test_a_write_keeps_its_idempotency_key_through_all_tries() -> None:
    coordinators = Coordinators(
        a=[UNAVAILABLE], b=[httpx.ReadTimeout("lost"), UNAVAILABLE, httpx.Response(201, json={"name": "g"})]
    )
    coordinators.client(timeout=10).post("/pipeline-groups", {"name": "g"})
    keys = {request.headers["Idempotency-Key"] for request in coordinators.requests}
    assert len(coordinators.requests) == 6
    assert len(keys) == 1


def test_two_writes_have_two_keys_and_a_read_has_none() -> None:
    coordinators = Coordinators(a=[httpx.Response(200, json={})], b=[UNAVAILABLE])
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
    no = httpx.Response(status, json={"error": "name it otherwise", "code": "conflict"})
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
    no = httpx.Response(422, json={"error": "bad VPL", "code": "parse_error", "diagnostics": [finding]})
    with pytest.raises(Refused) as refused:
        Coordinators(a=[no], b=[UNAVAILABLE]).client().post("/pipeline-groups", {})
    assert (refused.value.diagnostics[0].line, refused.value.diagnostics[0].hint) == (2, "contains?")


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff"])
def test_a_server_that_is_no_coordinator_is_named(body: bytes) -> None:
    for status in (200, 404):
        coordinators = Coordinators(a=[httpx.Response(status, content=body)], b=[UNAVAILABLE])
        with pytest.raises(CliError, match="is a coordinator at this URL"):
            coordinators.client().get("/workers")
