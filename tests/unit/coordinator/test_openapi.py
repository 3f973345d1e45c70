"""The OpenAPI document against every route that the API really has, and against what its handlers read."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from coordinator.api import schema
from coordinator.security import roles
from proto_schemas.rest.base import API_BASE
from tests.unit.coordinator.test_roles import app as app
from tests.unit.coordinator.test_roles import whole as whole


@pytest.fixture
def document(app: Litestar) -> dict[str, Any]:
    return schema.document(app, title="t", version="1", keys=True)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if method != "OPTIONS" and not handler.opt.get("page"):
                        yield route.path_format, method.lower(), handler


def test_it_has_every_route_and_no_other(app: Litestar, document: dict[str, Any]) -> None:
    served = {(path, method) for path, method, _ in handlers(app)}
    told = {(path, method) for path, method, _ in operations(document)}
    assert told == served and len(told) > 45
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for _, _, operation in operations(document))


def test_it_is_a_valid_document_whose_references_all_lead_somewhere(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(json.loads(json.dumps(document))).validate()

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            target: Any = document
            for step in str(node.get("$ref", "#")).split("/")[1:]:
                target = target[step]
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            follow(child)

    follow(document)
    assert r"\\A" not in json.dumps(document), "a pattern of Python's, and of nobody else's"


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        told = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert path.count("{") == len(told) and all(f"{{{name}}}" in path for name in told), (method, path)


READS = {
    "requestBody": ("read_body(", "read_optional_body(", "whole_body("),
    "Idempotency-Key": ("request_id(", "client_key(", "once.begin(", "_by_the_leader("),
    "If-Match": ("_if_match(",),
    "Last-Event-ID": ('"last-event-id"',),
    "x-worker-key": ("WORKER_KEY_HEADER",),
}
INDIRECTLY = {"create_connector", "change_connector", "cordon", "uncordon", "create_key", "rotate_key"}
"""They read the key in what they call."""


@pytest.mark.parametrize("what", READS)
def test_what_a_handler_reads_is_described_and_nothing_else(
    app: Litestar, document: dict[str, Any], what: str
) -> None:
    for path, method, handler in handlers(app):
        operation = document["paths"][path][method]
        source = inspect.getsource(handler.fn).partition(":\n")[2]
        reads = any(call in source for call in READS[what])
        if what == "Idempotency-Key":
            reads = reads or handler.handler_name in INDIRECTLY
        told = what in operation or what in {each["name"] for each in operation["parameters"]}
        assert told == reads, f"{method} {path}: reads {what}: {reads}, says so: {told}"


def test_reads_tell_how_fresh_they_are_but_for_those_that_are_of_the_node_itself(
    app: Litestar, document: dict[str, Any]
) -> None:
    for path, method, handler in handlers(app):
        names = {each["name"] for each in document["paths"][path][method]["parameters"]}
        through_the_leader = path.startswith(API_BASE) and not handler.opt.get("anywhere")
        assert ("consistency" in names) == (method == "get" and through_the_leader), path


def test_every_refusal_has_the_one_error_body_and_the_headers_of_its_status(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        refused = {status: told for status, told in operation["responses"].items() if status >= "300"}
        assert "500" in refused
        if path.startswith(API_BASE):
            assert {"400", "401", "403", "429", "503", "504"} <= set(refused), path
        assert ("404" in refused) >= ("{" in path), path
        assert ({"413", "415"} <= set(refused)) >= ("application/json" in str(operation.get("requestBody")))
        assert ("409" in refused) >= any("Idempotency" in each["name"] for each in operation["parameters"])
        for status, told in refused.items():
            assert told == {"$ref": f"#/components/responses/{status}"}, (method, path)
    for status, told in document["components"]["responses"].items():
        assert told["content"] == {
            "application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}
        }
        assert ("Retry-After" in told.get("headers", {})) == (status in ("429", "503"))
        assert ("WWW-Authenticate" in told.get("headers", {})) == (status == "401")
    error = document["components"]["schemas"]["ErrorReply"]
    assert error["required"] == ["error", "code", "retryable"]


def test_keys_that_are_bound_to_a_worker_are_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    asked = document["paths"][f"{API_BASE}/keys"]["post"]["requestBody"]
    assert asked["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/KeyRequest"}
    assert schemas["KeyRequest"]["properties"]["worker"]["maxLength"] == 65
    assert "worker" not in schemas["KeyRequest"]["required"] and "worker" in schemas["KeyView"]["properties"]
    assert "as that worker" in document["components"]["responses"]["403"]["description"]


def test_every_answer_has_a_schema(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answers = [told for status, told in operation["responses"].items() if status < "300"]
        assert answers, path
        for answer in answers:
            ((media_type, content),) = answer["content"].items()
            assert content["schema"], (method, path)
            if media_type == "application/json":
                assert "$ref" in str(content["schema"]) or path == "/openapi.json", (method, path)


def test_a_key_is_asked_for_where_the_door_is_and_nowhere_else(
    app: Litestar, document: dict[str, Any]
) -> None:
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "x-api-key")
    for path, method, operation in operations(document):
        below = path.startswith(API_BASE)
        assert operation["security"] == ([{"key": []}] if below else []), path
        if below:
            assert operation["x-least-role"] == roles.needed(roles.route_of(method.upper(), path)).value
    open_to_all = schema.document(app, title="t", version="1", keys=False)
    assert all(operation["security"] == [] for _, _, operation in operations(open_to_all))
