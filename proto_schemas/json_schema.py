"""JSON Schema of the Structs that are really decoded and encoded, for the documents about the wire.

msgspec writes it; here it is put into words that every reader of a schema knows: a pattern is one of
ECMA-262, which has no `\\A` and `\\Z` (its `^` and `$` mean just that), and a description has no indentation.
"""

import inspect
from collections.abc import Iterable
from typing import Any, Final

import msgspec

REFERENCE: Final = "#/components/schemas/{name}"


def components(kinds: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """A schema for each of `kinds`, in order, and by name those that they refer to."""
    schemas, named = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    return [_plain(schema) for schema in schemas], {name: _plain(named[name]) for name in sorted(named)}


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _word(name, value) for name, value in node.items()}


def _word(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if name == "pattern":
            return value.replace(r"\A", "^").replace(r"\Z", "$")
        return inspect.cleandoc(value) if name == "description" else value
    return _plain(value)
