"""The OpenAPI document: what the framework knows, with the request bodies that the handlers read themselves.

They do so because their errors are to name the path of a wrong field in the wire's own words. Each names its
body's type in `opt["body"]`, or in `opt["optional_body"]` when it may be absent; the schemas come from the
same Structs that decode them. A body that is no JSON has its media type in `opt["body_of_bytes"]`.
"""

from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from coordinator.security.door import HEADER


def with_bodies(app: Litestar) -> dict[str, Any]:
    """The document as plain data."""
    document = app.openapi_schema.to_schema()
    bodies, optional = _bodies(app, "body"), _bodies(app, "optional_body")
    bodies |= optional
    references, components = msgspec.json.schema_components(
        bodies.values(), ref_template="#/components/schemas/{name}"
    )
    for (path, method), reference in zip(bodies, references, strict=True):
        operation = document["paths"][path][method]
        operation["requestBody"] = {
            "required": (path, method) not in optional,
            "content": {"application/json": {"schema": reference}},
        }
    for (path, method), media_type in _bodies(app, "body_of_bytes").items():
        content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
        document["paths"][path][method]["requestBody"] = {"required": True, "content": content}
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {}).update(components)
    parts["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": HEADER}}
    document["security"] = [{"key": []}, {}]  # a coordinator may ask nobody for one
    return document


def _bodies(app: Litestar, name: str) -> dict[tuple[str, str], Any]:
    return {
        (route.path_format, method.lower()): handler.opt[name]
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if name in handler.opt
    }
