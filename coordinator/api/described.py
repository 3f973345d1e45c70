"""What the OpenAPI document says of many routes at once: headers, and when which refusal is given."""

from collections.abc import Mapping
from typing import Any, Final

from coordinator.api.context import MAX_KEY
from coordinator.api.leader import STALENESS
from proto_schemas.errors import ErrorCode
from proto_schemas.worker_rest import WORKER_KEY_HEADER

CONSISTENCY: Final[Mapping[str, Any]] = {
    "name": "consistency",
    "in": "query",
    "required": False,
    "description": "linearizable: as the leader knows it, after everything acknowledged before; stale: as "
    "the node that is asked knows it, at once",
    "schema": {"enum": ["linearizable", "stale"], "default": "linearizable"},
}
IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "one per request that is meant, such as a UUID: however often and through whichever node "
    "the request is sent under it, it is carried out once, and the first answer is given",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}
TAKEN: Final[Mapping[str, Mapping[str, Any]]] = {
    "if-match": {
        "name": "If-Match",
        "in": "header",
        "required": False,
        "description": "the ETag of the version that the group must have; *: whichever it has",
        "schema": {"type": "string", "pattern": r'^(\*|(W/)?"?[0-9]{1,15}"?)$', "default": "*"},
    },
    "last-event-id": {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "the `id` of the last event that was received: go on after it",
        "schema": {"type": "string"},
    },
    WORKER_KEY_HEADER: {
        "name": WORKER_KEY_HEADER,
        "in": "header",
        "required": False,
        "description": "the key that coordinators show to this worker, which speaks REST",
        "schema": {"type": "string"},
    },
}
"""Request headers of single routes."""

GIVEN: Final[Mapping[str, Mapping[str, Any]]] = {
    STALENESS: {
        "description": "with consistency=stale: ms since the leader was heard, or `unknown`",
        "schema": {"type": "string", "pattern": "^([0-9]+|unknown)$"},
    },
    "ETag": {
        "description": "the version of the group, for If-Match",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Content-Disposition": {"description": "a file name for the copy", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "seconds after which the same request may succeed",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "which header takes the key",
        "required": True,
        "schema": {"type": "string"},
    },
}
"""Response headers."""
GIVEN_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "get_group": ("ETag",),
    "update_group": ("ETag",),
    "snapshot": ("Content-Disposition",),
}
"""Those that single handlers give with what they answer."""

REFUSALS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "400": ("something in the request does not hold: `error` names it", ()),
    "401": ("there is no key, or one that does not count", ("WWW-Authenticate",)),
    "403": ("the key's role may not do this, the key may not speak as that worker, or another site's page "
            "asked", ()),
    "404": ("what the request names is not there", ()),
    "409": ("it does not go with how things are, or the Idempotency-Key is of another request", ()),
    "413": ("the body is too large", ()),
    "415": ("the body is not JSON", ()),
    "422": ("a program does not compile: every finding in `diagnostics`", ()),
    "429": ("too many requests of this key, or too many wrong keys", ("Retry-After",)),
    "500": ("a defect of the coordinator, with the id under which its log has it", ()),
    "502": ("the worker that was asked could not do it", ()),
    "503": ("not carried out: no leader, no room, or not ready; the same request may succeed later",
            ("Retry-After",)),
    "504": ("perhaps carried out: ask again with the same Idempotency-Key", ()),
}  # fmt: skip
"""By status: when it is given, and the headers that come with it. All have the same body."""


def refusals(path: str, method: str, opt: Mapping[str, Any], *, below: bool) -> list[int]:
    """The statuses with which a route may refuse. `below`: the base, behind the door and the way to the
    leader."""
    found = {500, *opt.get("refuses", ())}
    if below:
        found |= {400, 401, 403, 429, 503, 504}
    if below and "{" in path:
        found.add(404)
    if below and method != "GET" and opt.get("keyed", True):
        found.add(409)
    if "body" in opt or "optional_body" in opt:
        found |= {413, 415}
    if "body_of_bytes" in opt:
        found.add(413)
    return sorted(found)


def always_whole(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schemas, with that of the error object told more exactly: a seed peer may leave parts of it out, a
    coordinator never does."""
    found = {name: dict(schema) for name, schema in schemas.items()}
    error = found["ErrorReply"]
    error["required"] = ["error", "code", "retryable"]
    error["description"] = "The body of every refusal."
    code = {"type": "string", "examples": sorted(ErrorCode)}
    error["properties"] = {**error["properties"], "code": code}
    return found
