"""Three coordinators and two workers as processes, asked for everything that their OpenAPI document tells of,
validly and not, by everybody: each answer is one that the document has, none is a defect, the cluster lives.

The requests are the same each time. `make fuzz` makes others, for as long as one likes.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.state.records import KeyRole
from proto_schemas.rest.base import API_BASE
from tests.fuzz.driver import Care, Found, fuzz
from tests.fuzz.stage import Stage, a_cluster
from tests.support.nats_server import NatsServer
from transport.http import HttpServer

OPERATIONS = 52
"""All but that of the document itself, which schemathesis leaves out."""
BY_OTHERS = ((KeyRole.VIEWER, 1), (KeyRole.OPERATOR, 1), (KeyRole.WORKER, 1))


async def asked(stage: Stage, role: KeyRole, examples: int, *phases: str) -> Found:
    url = stage.group.url(await stage.follower())
    key = stage.keys[role]
    return await asyncio.to_thread(
        fuzz, url, key=key, role=role, care=stage.care, examples=examples, phases=phases
    )


@pytest.mark.processes
@pytest.mark.timeout(480)
async def test_the_api_does_what_its_document_says_whoever_asks_and_whatever_for(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with a_cluster(nats_server.url, tmp_path) as stage:
        found = await asked(stage, KeyRole.ADMIN, 2, "coverage", "fuzzing", "stateful")
        assert not found.faults, found
        assert len(found.operations) == OPERATIONS, "all of them were asked for"
        succeeded = {label for label, status in found.answers if status < 300}
        assert len(succeeded) > OPERATIONS / 2, "and most were carried out"
        for role, examples in BY_OTHERS:
            found = await asked(stage, role, examples, "fuzzing")
            assert not found.faults, found
            refused = {label for label, status in found.answers if status == 403}
            assert refused and refused < found.operations, f"{role}: {refused}"
        await nobody_gets_in_without_a_key(stage)
        await stage.is_well()
        assert not stage.defects()


async def nobody_gets_in_without_a_key(stage: Stage) -> None:
    http, url = stage.group.http, stage.group.url("c0")
    for path, operations in (await http.get(f"{url}/openapi.json")).json()["paths"].items():
        for method, operation in operations.items():
            target = url + path.replace("{", "").replace("}", "")
            answer = await http.request(method, target, headers={"x-api-key": ""})
            assert (answer.status_code == 401) == bool(operation["security"]), f"{method} {path}"


class Liar:
    """An API of which each route breaks its description in another way."""

    ANSWERS = {
        "another_body": (200, {"x": "text"}),
        "another_status": (418, {}),
        "takes_all": (200, {"x": 1}),
        "takes_nothing": (400, {"x": 1}),
        "a_defect": (500, {}),
        "no_leader": (503, {"error": "no leader in time"}),
        "no_header": (201, {}),
    }

    def document(self) -> dict[str, Any]:
        number = {"name": "n", "in": "query", "required": True, "schema": {"type": "integer"}}
        body = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
        answer = {"description": "", "content": {"application/json": {"schema": body}}}
        empty = {"description": "", "content": {"application/json": {}}}
        headers = {"x-told": {"required": True, "schema": {"type": "string"}}}
        responses = {
            "200": answer,
            "201": {**empty, "headers": headers},
            "400": empty,
            "503": empty,
            "500": empty,
        }
        get = {"parameters": [number], "responses": responses, "security": [{"key": []}]}
        return {
            "openapi": "3.1.0",
            "info": {"title": "t", "version": "1"},
            "paths": {f"{API_BASE}/{name}": {"get": get} for name in self.ANSWERS},
            "components": {
                "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
            },
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind.endswith("shutdown"):
                    return
        name = scope["path"].rpartition("/")[2]
        status, body = (200, self.document()) if name == "openapi.json" else self.ANSWERS[name]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def test_an_api_that_breaks_its_document_is_found_out() -> None:
    server = HttpServer(Liar())
    await server.start()
    try:
        care = Care(members=frozenset(), keys=frozenset(), cluster_id="x")
        found = await asyncio.to_thread(
            fuzz, server.url, key="k", care=care, examples=2, phases=("coverage", "fuzzing")
        )
    finally:
        await server.stop()
    faults = "\n".join(found.faults)
    for route, what in (
        ("another_body", "response_schema_conformance"),
        ("another_status", "status_code_conformance"),
        ("takes_all", "negative_data_rejection"),
        ("takes_all", "ignored_auth"),
        ("takes_all", "unsupported_method"),
        ("takes_nothing", "400 for what the document allows"),
        ("a_defect", "500 of a healthy cluster"),
        ("no_leader", "503 of a healthy cluster"),
        ("no_header", "response_headers_conformance"),
    ):
        assert f"GET {API_BASE}/{route} {what}" in faults, f"{route} {what}\n{faults}"
