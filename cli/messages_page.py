"""Every message on NATS, field by field, made from the AsyncAPI document, which is made from the Structs.

Field names, types and bounds come from what is really decoded; so nothing here can tell of a field that the
code does not have.
"""

from typing import Any, Final

from proto_schemas.export import asyncapi

_REFERENCE: Final = "#/components/schemas/"
_64_BITS: Final = 2**63 - 1
"""A bound from which on it says only that a number is one of 64 bits."""


def messages_table() -> str:
    """The channels in their order, then every object that a message holds."""
    document = asyncapi()
    schemas = document["components"]["schemas"]
    rows = [_channel(name, channel, schemas) for name, channel in document["channels"].items()]
    head = "| Subject | What it is | Message |\n|---|---|---|"
    parts = "\n".join(_schema(name, schema) for name, schema in schemas.items())
    return "\n".join(["## Subjects\n", head, *rows, "", "## Objects\n", parts])


def _channel(name: str, channel: dict[str, Any], schemas: dict[str, Any]) -> str:
    address = f"`{channel['address']}`" if channel["address"] else "the reply subject"
    kinds = ", ".join(
        f"[{kind}](#{kind.lower()})" if kind in schemas else "a checkpoint" for kind in channel["messages"]
    )
    return f"| {address} | {channel['summary']} | {kinds} |"


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if text := schema.get("description"):
        lines.append(text.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n") + "\n")
    if not (fields := schema.get("properties")):
        return "\n".join([*lines, "No fields.\n"])
    required = schema.get("required", ())
    lines.append("| Field | Type | |\n|---|---|---|")
    for field, kind in fields.items():
        lines.append(f"| `{field}` | {_type(kind)} | {_rest(kind, field in required)} |")
    return "\n".join([*lines, ""])


def _rest(kind: dict[str, Any], required: bool) -> str:
    default = kind.get("default")
    said = "required" if required else "" if default in (None, [], {}) else f"default `{_json(default)}`"
    return "; ".join(part for part in (said, kind.get("description", "")) if part)


def _json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(kind: dict[str, Any]) -> str:
    """In words, with links to objects. `null` is no word of its own: whoever leaves a field out means it."""
    if "$ref" in kind:
        name = kind["$ref"].removeprefix(_REFERENCE)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(_type(each) for each in kind["anyOf"] if each.get("type") != "null")
    if "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind["enum"])
    match kind.get("type"):
        case "array":
            items = kind.get("items", {})
            return f"list of {_type(items)}" if items else "list"
        case "object":
            values = kind.get("additionalProperties")
            return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
        case "integer" | "number":
            return _bounded(kind)
        case None:
            return "anything"
        case other:
            return str(other)


def _bounded(kind: dict[str, Any]) -> str:
    bounds = [
        f"{sign} {kind[name]}"
        for name, sign in (("minimum", "≥"), ("maximum", "≤"))
        if name in kind and abs(kind[name]) < _64_BITS
    ]
    return " ".join([kind["type"], ", ".join(bounds)]).strip()
