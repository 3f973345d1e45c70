"""The table of roles against the wire's document and against every route that the API really has."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from coordinator.api.app import build
from coordinator.api.cut_off import CutOff
from coordinator.metrics import HttpCounts
from coordinator.security import roles
from coordinator.security.door import Door
from proto_schemas.rest.base import API_BASE
from tests.unit.coordinator.test_api_keys import Book

WIRE = """
POST operator /workers/register
POST operator /workers/{}/heartbeat
GET viewer /workers
GET viewer /workers/{}
DELETE admin /workers/{}
POST operator /workers/{}/drain
POST operator /workers/{}/cordon
POST operator /workers/{}/uncordon
POST operator /pipeline-groups
PUT operator /pipeline-groups/{}
GET viewer /pipeline-groups
GET viewer /pipeline-groups/{}
DELETE admin /pipeline-groups/{}
GET viewer /pipeline-groups/{}/history
POST operator /pipeline-groups/{}/rollback
POST operator /pipeline-groups/{}/scale
POST operator /pipeline-groups/{}/inject
POST operator /pipeline-groups/{}/inject-batch
GET viewer /topology
GET viewer /summary
GET viewer /metrics
GET viewer /raft
GET viewer /events
GET viewer /scaling
POST viewer /validate
POST operator /rebalance
GET viewer /migrations
GET viewer /migrations/{}
POST operator /pipelines/{}/{}/migrate
GET viewer /connectors
GET viewer /connectors/{}
POST operator /connectors
PUT operator /connectors/{}
DELETE admin /connectors/{}
POST admin /raft/transfer
POST admin /raft/members
DELETE admin /raft/members/{}
GET admin /snapshot
POST admin /snapshot
GET viewer /stream
"""
"""The roles column of the wire's document, written down a second time."""


@pytest.fixture
def whole() -> CutOff:
    """The whole application, as a server gets it."""
    counts: Any = HttpCounts()
    door = Door(Book(), required=True)
    context: Any = SimpleNamespace(counts=counts, door=door, config=SimpleNamespace(is_local=True))
    return build(context)


@pytest.fixture
def app(whole: CutOff) -> Litestar:
    found: Any = whole
    while not isinstance(found, Litestar):
        found = found._app
    return found


def routes(app: Litestar) -> list[tuple[str, str]]:
    return [
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    ]


def test_the_table_says_what_the_document_says() -> None:
    for line in WIRE.split("\n"):
        if line:
            method, role, path = line.split()
            assert roles.ROLES[method, path].value == role, line


def test_every_route_of_the_api_has_a_role(app: Litestar) -> None:
    """A route that is added without one would take an admin; say in `roles.ROLES` what is meant."""
    below = [(method, path) for method, path in routes(app) if path.startswith(API_BASE)]
    assert len(below) > 15
    missing = [route for route in below if roles.route_of(*route) not in roles.ROLES]
    assert not missing
    gone = set(roles.ROLES) - {roles.route_of(*route) for route in below} - set(routes(app))
    assert not gone, "a role for what nobody answers"


def test_nothing_outside_the_base_is_open_but_what_is_meant_to_be(app: Litestar) -> None:
    outside = {path for _, path in routes(app) if not path.startswith(API_BASE)}
    assert outside <= roles.OPEN


def test_reading_takes_a_viewer_and_what_is_removed_takes_an_admin_but_for_jobs() -> None:
    """What the table would look like by rule; each exception is one that somebody decided."""
    for (method, path), role in roles.ROLES.items():
        if method == "GET" and not path.startswith(("/keys", "/snapshot")):
            assert role.value == "viewer", path
        if method in ("PUT", "POST"):
            assert role.value != "viewer" or path == "/validate", path
        if method == "DELETE" and "drain" not in path:
            assert role.value == "admin", path


async def asked(app: Any, method: str, path: str, **more: Any) -> tuple[int, bool]:
    """Status of an answer, and whether the body was asked for; the body never comes whole."""
    sent, read = [], False

    async def receive() -> Any:
        nonlocal read
        read = True
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    filled = path.replace("{key_id}", "k").replace("{", "").replace("}", "")
    scope = {"type": "http", "method": method, "path": filled, "raw_path": filled.encode(), "scheme": "http"}
    scope |= {"query_string": b"", "headers": [], "client": ("10.0.0.9", 1), "server": ("127.0.0.1", 1)}
    async with asyncio.timeout(10):
        await app({**scope, **more, "app": None, "state": {}, "http_version": "1.1"}, receive, send)
    return sent[0]["status"], read


async def test_no_route_reads_a_body_that_is_too_large_or_that_a_stranger_sends(
    app: Litestar, whole: CutOff
) -> None:
    """The bounds hold in front of every route, whatever its handler does, and the door before the body."""
    large = [(b"content-length", b"9999999999"), (b"content-type", b"application/json")]
    limits_of = {"headers": large}
    for method, path in routes(app):
        if path.startswith(API_BASE):
            assert await asked(whole._app, method, path) == (401, False), (method, path)
        with patch("transport.limits.LINGER", 0.0):
            assert (await asked(whole, method, path, **limits_of))[0] == 413, (method, path)


def test_the_table_has_no_route_twice_under_other_names() -> None:
    assert roles.route_of("GET", f"{API_BASE}/workers/{{worker_id}}") == ("GET", "/workers/{}")
    assert roles.route_of("GET", f"{API_BASE}/workers/{{worker_id:str}}") == ("GET", "/workers/{}")
    assert Path(roles.__file__).read_text().count('("POST", "/keys")') == 1
