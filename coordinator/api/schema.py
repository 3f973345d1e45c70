"""The OpenAPI document: every route with what it takes and every answer it may give.

It is made of the handlers themselves. Parameters come from their signatures, bodies and answers from the
Structs that decode and encode them (`proto_schemas.json_schema`), summaries from their docstrings, refusals
from rules that hold for all: who may be sent away by the door is, who names something that may not be there
gets 404, who writes may meet a conflict. What no rule can know a handler says in its `opt`:

    body, optional_body   type of the JSON body; the second may be absent
    body_of_bytes         media type of a body that is no JSON
    answer                type of the answer, where the annotation is a ready-made `Response`
    also                  further answers: type by status
    refuses               further refusals: statuses
    headers               names, out of `TAKEN`, of request headers
    keyed                 False: a write that knows no `Idempotency-Key`

Bodies are read by the handlers, because their errors are to name the path of a wrong field in the wire's own
words; so no framework could describe this.
"""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter
from litestar.routes import HTTPRoute

from coordinator.api.described import (
    CONSISTENCY,
    GIVEN,
    GIVEN_WITH,
    IDEMPOTENCY_KEY,
    REFUSALS,
    TAKEN,
    always_whole,
    refusals,
)
from coordinator.api.leader import STALENESS
from coordinator.security import roles
from coordinator.security.door import HEADER
from proto_schemas.errors import ErrorReply
from proto_schemas.json_schema import components
from proto_schemas.rest.base import API_BASE

Operation = dict[str, Any]


def document(app: Litestar, *, title: str, version: str, keys: bool) -> dict[str, Any]:
    """The document as plain data. `keys`: whether this coordinator asks for API keys."""
    handlers = list(_handlers(app))
    schemas = _Schemas()
    for _, _, handler in handlers:
        schemas.want(ErrorReply, *_kinds_of(handler))
    schemas.make()
    paths: dict[str, dict[str, Operation]] = {}
    for path, method, handler in handlers:
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, handler, schemas, keys=keys)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": always_whole(schemas.named),
            "responses": {name: _refusal(name, schemas) for name in REFUSALS},
            "headers": dict(GIVEN),
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": HEADER}},
        },
    }


class _Schemas:
    """The schemas of all types, made together so that each type is described once."""

    def __init__(self) -> None:
        self._wanted: list[Any] = []
        self._made: list[tuple[Any, dict[str, Any]]] = []
        self.named: dict[str, dict[str, Any]] = {}

    def want(self, *kinds: Any) -> None:
        self._wanted += [kind for kind in kinds if kind not in self._wanted]

    def make(self) -> None:
        made, self.named = components(self._wanted)
        self._made = list(zip(self._wanted, made, strict=True))

    def of(self, *kinds: Any) -> dict[str, Any]:
        """The schema of one type, or of any one of several."""
        found = [next(schema for wanted, schema in self._made if wanted == kind) for kind in kinds]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods):
                    # not the framework's own answer, nor the files of the page for people
                    if method != "OPTIONS" and not handler.opt.get("page"):
                        yield route.path_format, method, handler


def _operation(
    path: str, method: str, handler: HTTPRouteHandler, schemas: _Schemas, *, keys: bool
) -> Operation:
    opt, below = handler.opt, path.startswith(API_BASE)
    text = inspect.cleandoc(handler.fn.__doc__ or "")
    found: Operation = {
        "operationId": handler.handler_name,
        "tags": [path.removeprefix(API_BASE).strip("/").partition("/")[0]],
        "summary": " ".join(text.partition("\n\n")[0].split()),
        "description": text,
        "parameters": [*_parameters(handler, schemas), *_common(method, opt, below=below)],
        "responses": _responses(path, method, handler, schemas, below=below),
        # anybody may read what is outside the base; and a coordinator may ask nobody for a key
        "security": [{"key": []}] if below and keys else [],
    }
    if below:
        found["x-least-role"] = roles.needed(roles.route_of(method, path)).value
    if body := _body(opt, schemas):
        found["requestBody"] = body
    return found


def _parameters(handler: HTTPRouteHandler, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    """Of path and query, as the signature has them."""
    for name, parameter in inspect.signature(handler.fn).parameters.items():
        kind, told = _told(handler, name)
        if isinstance(told, PathParameter):
            described = {"type": "string", "minLength": 1}
            yield {"name": name, "in": "path", "required": True, "schema": described}
        elif isinstance(told, QueryParameter):
            yield {
                "name": told.name or name,
                "in": "query",
                "required": False,
                "description": told.description or "",
                "schema": _default(schemas.of(kind), parameter.default),
            }


def _told(handler: HTTPRouteHandler, name: str) -> tuple[Any, Any]:
    """A parameter's type, with its bounds and without null, and what the framework was told of it."""
    annotation = typing.get_type_hints(handler.fn, include_extras=True)[name]
    kind, *extras = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (None,)
    told = next((extra for extra in extras if isinstance(extra, PathParameter | QueryParameter)), None)
    if not isinstance(told, QueryParameter):
        return kind, told
    if isinstance(kind, types.UnionType):  # absent is None, and nobody can send one
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    bounds = {name: getattr(told, name) for name in ("ge", "le") if getattr(told, name) is not None}
    return (Annotated[kind, msgspec.Meta(**bounds)] if bounds else kind), told


def _default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    return schema if default is None else {**schema, "default": default}


def _common(method: str, opt: Mapping[str, Any], *, below: bool) -> Iterator[dict[str, Any]]:
    """What many take that no signature has."""
    if below and method == "GET" and not opt.get("anywhere"):
        yield dict(CONSISTENCY)
    if below and method != "GET" and opt.get("keyed", True):
        yield dict(IDEMPOTENCY_KEY)
    yield from (dict(TAKEN[name]) for name in opt.get("headers", ()))


def _body(opt: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any] | None:
    kind = opt.get("body") or opt.get("optional_body")
    if kind is not None:
        content = {"application/json": {"schema": schemas.of(kind)}}
        return {"required": "body" in opt, "content": content}
    if "body_of_bytes" in opt:
        content = {opt["body_of_bytes"]: {"schema": {"type": "string", "format": "binary"}}}
        return {"required": True, "content": content}
    return None


def _responses(
    path: str, method: str, handler: HTTPRouteHandler, schemas: _Schemas, *, below: bool
) -> dict[str, Any]:
    opt = handler.opt
    media_type = str(getattr(handler.media_type, "value", handler.media_type) or "application/json")
    answers: dict[int, list[Any]] = {handler.status_code: _answers(handler)}
    answers |= {status: [kind] for status, kind in opt.get("also", {}).items()}
    named = [*GIVEN_WITH.get(handler.handler_name, ())]
    if below and method == "GET" and not opt.get("anywhere"):
        named.append(STALENESS)
    found: dict[str, Any] = {}
    for status, kinds in answers.items():
        schema = schemas.of(*kinds) if kinds else {"type": "string", "format": "binary"}
        found[str(status)] = {
            "description": "accepted, and not finished yet" if status == 202 else "done",
            "content": {media_type: {"schema": schema}},
        }
        if named:
            references = {name: {"$ref": f"#/components/headers/{name}"} for name in named}
            found[str(status)]["headers"] = references
    for status in refusals(path, method, opt, below=below):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found


def _refusal(status: str, schemas: _Schemas) -> dict[str, Any]:
    text, headers = REFUSALS[status]
    found: dict[str, Any] = {
        "description": text,
        "content": {"application/json": {"schema": schemas.of(ErrorReply)}},
    }
    if headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return found


def _answers(handler: HTTPRouteHandler) -> list[Any]:
    """The types of what a handler answers; none: bytes."""
    if "answer" in handler.opt:
        return [handler.opt["answer"]]
    return list(dict.fromkeys(_leaves(typing.get_type_hints(handler.fn)["return"])))


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types in an annotation that have a schema, out of unions and responses."""
    if typing.get_args(annotation) and typing.get_origin(annotation) is not dict:
        for part in typing.get_args(annotation):
            yield from _leaves(part)
    elif annotation is not bytes:
        yield annotation


def _kinds_of(handler: HTTPRouteHandler) -> Iterator[Any]:
    """Every type whose schema the description of a handler needs."""
    opt = handler.opt
    yield from _answers(handler)
    yield from opt.get("also", {}).values()
    yield from (opt[name] for name in ("body", "optional_body") if name in opt)
    for name in inspect.signature(handler.fn).parameters:
        kind, told = _told(handler, name)
        if isinstance(told, QueryParameter):
            yield kind
