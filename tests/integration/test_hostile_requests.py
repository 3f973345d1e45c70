"""What no client would send by intent, raw, to one real coordinator: each is 4xx with an error object, unless
it is no HTTP at all, and the neighbours on other connections notice nothing.
"""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.unit.coordinator.three import Three

DEEP, DIGITS, NONE = 10_000, b"9" * 5_000, ""
CHUNKED = "transfer-encoding: chunked"
JSON = "content-type: application/json"


VALIDATE = "/validate"


def request(
    path: str = VALIDATE,
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    version: str = "HTTP/1.1",
    length: str | None = None,
) -> bytes:
    """A request as it goes over the wire. `length`: in place of the true one; empty: none."""
    length = str(len(body)) if length is None else length
    lines = [f"{method} {API_BASE}{path} {version}", "host: x", *headers]
    lines += [f"content-length: {length}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def of_json(body: bytes, path: str = VALIDATE) -> bytes:
    return request(path, body, JSON)


INJECT = "/pipeline-groups/g/inject"
HOSTILE: dict[str, tuple[bytes, set[int]]] = {
    "brackets without end": (of_json(b"[" * DEEP), {400}),
    "brackets": (of_json(b"[" * DEEP + b"]" * DEEP), {400}),
    "objects in objects": (of_json(b'{"a":' * DEEP + b"1" + b"}" * DEEP), {400}),
    "deep fields": (
        of_json(b'{"event_type":"In","fields":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}}", INJECT),
        {400},
    ),
    "deep event of a batch": (
        of_json(b'{"events":[' + b"[" * DEEP + b"]" * DEEP + b"]}", INJECT + "-batch"),
        {400},
    ),
    "no UTF-8": (of_json(b'{"source":"\xff\xfe"}'), {400}),
    "half of a surrogate pair": (of_json(b'{"source":"\\ud800"}'), {400}),
    "UTF-16": (of_json('{"source":"x"}'.encode("utf-16")), {400}),
    "a byte order mark": (of_json(b'\xef\xbb\xbf{"source":""}'), {400}),
    "NaN": (of_json(b'{"source":NaN}'), {400}),
    "NaN among fields": (of_json(b'{"event_type":"In","fields":{"x":NaN}}', INJECT), {400}),
    "Infinity among fields": (of_json(b'{"event_type":"In","fields":{"x":-Infinity}}', INJECT), {400}),
    "a float beyond all": (of_json(b'{"event_type":"In","fields":{"x":1e999}}', INJECT), {400}),
    "a number of 5,000 digits": (
        of_json(b'{"role":"viewer","expires_in_secs":' + DIGITS + b"}", "/keys"),
        {400},
    ),
    "the same among fields": (of_json(b'{"event_type":"In","fields":{"x":' + DIGITS + b"}}", INJECT), {400}),
    "the same in the query": (request("/workers?limit=" + DIGITS.decode(), method="GET"), {400}),
    "an offset beyond 64 bits": (request("/workers?offset=" + "9" * 30, method="GET"), {200, 400}),
    "a key twice in an object": (of_json(b'{"source":1,"source":2}'), {400}),
    "NUL in an id of the body": (of_json(b'{"name":"a\\u0000b","pipelines":[]}', "/pipeline-groups"), {400}),
    "NUL in an id of the path": (request("/workers/a%00b", method="GET"), {404}),
    "NUL in an id of the path that is made": (
        of_json(b'{"name":"a\\u0000b","connector_type":"nats"}', "/connectors/a%00b").replace(
            b"POST", b"PUT", 1
        ),
        {400},
    ),
    "half an escape in the path": (request("/workers/%f", method="GET"), {400, 404}),
    "no UTF-8 in the path": (request("/workers/%ff", method="GET"), {400, 404}),
    "no UTF-8 in the query": (request("/events?about=%ff", method="GET"), {200, 400}),
    "dots in the path": (request("/workers/../../../etc/passwd", method="GET"), {404}),
    "escaped dots in the path": (request("/workers/%2e%2e%2f%2e%2e", method="GET"), {404}),
    "NUL in a header": (request("/keys", b"{}", JSON, "idempotency-key: a\0b"), {400}),
    "a header without a name": (request("/keys", b"{}", JSON, ": x"), {400}),
    "no letters in a key": (request("/keys", b'{"role":"x"}', JSON, "idempotency-key: \xff\xfe"), {400}),
    "a version that is none": (request(method="GET", path="/workers", version="HTTP/9.9"), {400, 505}),
    "a method nobody knows": (request(method="BREW", path="/workers"), {400, 405, 501}),
    "a method of others": (request(method="PROPFIND", path="/workers"), {405}),
    "a CONNECT": (request(method="CONNECT", path="/workers"), {400, 404, 405}),
    "an upgrade": (
        request("/workers?limit=0", b"", "connection: upgrade", "upgrade: h2c", method="GET"),
        {400},
    ),
    "a WebSocket": (
        request(
            "/nothing",
            b"",
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            method="GET",
        ),
        {400, 404, 426},
    ),
    "two lengths": (request(VALIDATE, b"{}", JSON, "content-length: 9"), {400}),
    "a length below zero": (request(VALIDATE, b"{}", JSON, length="-2"), {400}),
    "a length that is no number": (request(VALIDATE, b"{}", JSON, length="two"), {400}),
    "a length and chunks": (request(VALIDATE, b"2\r\n{}\r\n0\r\n\r\n", JSON, CHUNKED), {400}),
    "a coding nobody knows": (
        request(VALIDATE, b"{}", JSON, "transfer-encoding: zip", length=NONE),
        {400, 501},
    ),
    "a chunk of no size": (request(VALIDATE, b"x\r\n{}\r\n", JSON, CHUNKED, length=NONE), {400}),
    "chunks": (request(VALIDATE, b"2\r\n{}\r\n0\r\n\r\n", JSON, CHUNKED, length=NONE), {400}),
    "gzip": (request(VALIDATE, gzip.compress(b'{"source":""}'), JSON, "content-encoding: gzip"), {400, 415}),
    "another charset": (
        request(
            VALIDATE, '{"source":"\xe9"}'.encode("latin-1"), "content-type: application/json; charset=latin-1"
        ),
        {400, 415},
    ),
    "a length beyond all": (request(VALIDATE, b"{}", JSON, length="9" * 30), {400, 413}),
    "a body said to be too large": (request(VALIDATE, b"{}", JSON, length="9000000"), {413}),
    "expect without end": (request("/validate?x=1", b"[]", JSON, "expect: 100-continue"), {400}),
}


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Three]:
    stage = Three(nats_server.url, tmp_path)
    try:
        await stage.start("c0", members=("c0",))
        await stage.has_leader()
        yield stage
    finally:
        await stage.http.aclose()
        await stage.stop("c0")


async def answers(stage: Three, data: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies of all answers on one connection until it is closed, or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.leader._server.port)  # type: ignore[union-attr]
    found: list[tuple[int, bytes]] = []
    try:
        writer.write(data)
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=10)
            lines = head.decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            status = int(lines[0].split()[1])
            if "content-length" in fields:
                body = await reader.readexactly(int(fields["content-length"]))
            else:
                body = await reader.read() if status != 100 else b""
            if status != 100:
                found.append((status, body))
            if fields.get("connection") == "close" or len(found) == data.count(b" HTTP/"):
                return found
    except asyncio.IncompleteReadError:
        return found
    finally:
        writer.close()


async def test_hostile_requests_are_refused_one_by_one_and_the_neighbours_notice_nothing(
    stage: Three, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.ask("POST", "/workers/register", _WORKER)
    wrong: list[str] = []
    for name, (data, statuses) in HOSTILE.items():
        got = await answers(stage, data)
        if not got or got[0][0] not in statuses or b"Traceback" in got[0][1]:
            wrong.append(f"{name}: {[(status, body[:200]) for status, body in got]}")
        elif got[0][0] >= 400:
            assert json.loads(got[0][1])["code"], name
        neighbour = await stage.http.get(stage.leader.url + API_BASE + "/workers")
        assert neighbour.status_code == 200, name
    assert not wrong, "\n".join(wrong)
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not told, told
    assert (await stage.ask("GET", "/keys")).json()["total"] == 0


async def test_garbage_after_a_request_costs_its_connection_and_not_the_request(stage: Three) -> None:
    whole = request("/workers", method="GET")
    made = of_json(b'{"role":"viewer"}', "/keys")
    ((status, body),) = await answers(stage, made + b"\x00\xffgarbage\r\n\r\n")
    assert status == 201, "it was carried out, and the answer says so"
    assert (await stage.ask("GET", "/keys")).json()["total"] == 1
    broken = request("/keys", b"zz\r\n", JSON, CHUNKED, length=NONE)
    found = await answers(stage, whole + broken)
    assert [status for status, _ in found] == [200], "the one before is answered, the connection ends"
    ((status, body),) = await answers(stage, broken)
    assert status == 400 and json.loads(body)["code"] == "bad_request"
    assert (await stage.ask("GET", "/keys")).json()["total"] == 1
    three = await answers(stage, whole * 3)
    assert [status for status, _ in three] == [200, 200, 200], "requests in one piece are answered in order"
    mixed = await answers(stage, whole + of_json(b"{") + request("/nothing", method="GET"))
    assert [status for status, _ in mixed] == [200, 400, 404]


async def test_http_1_0_is_understood(stage: Three) -> None:
    ((status, body),) = await answers(stage, request("/workers", method="GET", version="HTTP/1.0"))
    assert status == 200 and json.loads(body)["total"] == 0
    assert (await answers(stage, b"GET /livez HTTP/1.0\r\n\r\n"))[0] == (200, b"ok"), "without a host"


_WORKER = {
    "worker_id": "w",
    "address": "http://x",
    "api_key": "",
    "capacity": {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 0},
}
