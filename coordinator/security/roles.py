"""Which role each route of the API takes; one table, and nothing beside it.

`viewer < operator < admin`: a role may do what those below it may. A `worker` key stands beside them: it
registers and heartbeats, and nothing else, so that a worker's machine that fell into other hands rules
nothing.

A route that the table does not name takes `admin`, and a test fails: no route of the API is open by being
forgotten. The table names routes of the wire's document that this version may not have yet; they are
harmless.
"""

import re
from collections.abc import Mapping
from typing import Final

from coordinator.state.records import KeyRole
from proto_schemas.rest.base import API_BASE

_RANK: Final[Mapping[KeyRole, int]] = {KeyRole.VIEWER: 1, KeyRole.OPERATOR: 2, KeyRole.ADMIN: 3}
_VIEW, _OPERATE, _ADMIN = KeyRole.VIEWER, KeyRole.OPERATOR, KeyRole.ADMIN

ROLES: Final[Mapping[tuple[str, str], KeyRole]] = {
    ("POST", "/workers/register"): _OPERATE,
    ("POST", "/workers/{}/heartbeat"): _OPERATE,
    ("GET", "/workers"): _VIEW,
    ("GET", "/workers/{}"): _VIEW,
    ("DELETE", "/workers/{}"): _ADMIN,
    ("GET", "/workers/{}/drain"): _VIEW,
    ("POST", "/workers/{}/drain"): _OPERATE,
    ("DELETE", "/workers/{}/drain"): _OPERATE,
    ("POST", "/workers/{}/cordon"): _OPERATE,
    ("POST", "/workers/{}/uncordon"): _OPERATE,
    ("POST", "/pipeline-groups"): _OPERATE,
    ("PUT", "/pipeline-groups/{}"): _OPERATE,
    ("GET", "/pipeline-groups"): _VIEW,
    ("GET", "/pipeline-groups/{}"): _VIEW,
    ("DELETE", "/pipeline-groups/{}"): _ADMIN,
    ("GET", "/pipeline-groups/{}/history"): _VIEW,
    ("POST", "/pipeline-groups/{}/rollback"): _OPERATE,
    ("POST", "/pipeline-groups/{}/scale"): _OPERATE,
    ("POST", "/pipeline-groups/{}/inject"): _OPERATE,
    ("POST", "/pipeline-groups/{}/inject-batch"): _OPERATE,
    ("GET", "/topology"): _VIEW,
    ("GET", "/summary"): _VIEW,
    ("GET", "/metrics"): _VIEW,
    ("GET", "/raft"): _VIEW,
    ("GET", "/raft/leader"): _VIEW,
    ("GET", "/events"): _VIEW,
    ("GET", "/scaling"): _VIEW,
    ("POST", "/validate"): _VIEW,
    ("POST", "/rebalance"): _OPERATE,
    ("GET", "/migrations"): _VIEW,
    ("GET", "/migrations/{}"): _VIEW,
    ("POST", "/pipelines/{}/{}/migrate"): _OPERATE,
    ("GET", "/connectors"): _VIEW,
    ("GET", "/connectors/{}"): _VIEW,
    ("POST", "/connectors"): _OPERATE,
    ("PUT", "/connectors/{}"): _OPERATE,
    ("DELETE", "/connectors/{}"): _ADMIN,
    ("POST", "/raft/transfer"): _ADMIN,
    ("POST", "/raft/members"): _ADMIN,
    ("DELETE", "/raft/members/{}"): _ADMIN,
    ("GET", "/snapshot"): _ADMIN,
    ("POST", "/snapshot"): _ADMIN,
    ("GET", "/stream"): _VIEW,
    ("GET", "/whoami"): _VIEW,
    ("GET", "/keys"): _ADMIN,
    ("POST", "/keys"): _ADMIN,
    ("GET", "/keys/{}"): _ADMIN,
    ("DELETE", "/keys/{}"): _ADMIN,
    ("POST", "/keys/{}/rotate"): _ADMIN,
}
OPEN: Final = frozenset({"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/", "/page/{name}"})
"""Paths outside the base that ask for no key; they tell nothing that a key would protect."""
FOR_WORKERS: Final = frozenset({("POST", "/workers/register"), ("POST", "/workers/{}/heartbeat")})
"""What a key of a worker may do."""
UNMETERED: Final = frozenset({("POST", "/workers/{}/heartbeat")})
"""What no rate limit holds back: a heartbeat that was refused would be a death."""

_PARAMETER: Final = re.compile(r"\{[^}]*\}")


def route_of(method: str, template: str) -> tuple[str, str]:
    """A route as the tables name it: below the base, its parameters without names."""
    return method, _PARAMETER.sub("{}", template.removeprefix(API_BASE)) or "/"


def needed(route: tuple[str, str]) -> KeyRole:
    """The least role that a route takes."""
    return ROLES.get(route, KeyRole.ADMIN)


def may(role: KeyRole, route: tuple[str, str]) -> bool:
    """Whether a key of that role may use a route."""
    if role is KeyRole.WORKER:
        return route in FOR_WORKERS
    return _RANK[role] >= _RANK[needed(route)]
