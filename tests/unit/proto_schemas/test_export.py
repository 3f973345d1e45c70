"""The AsyncAPI document tells of exactly what the code sends and reads."""

import json
import re
from typing import Any

import msgspec

from proto_schemas.export import asyncapi
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.membership import Register

DOCUMENT = asyncapi()


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for item in node for found in references(item)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 50
    for reference in found:
        node: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_every_command_has_a_channel_an_operation_and_an_answer() -> None:
    for command in COMMANDS:
        assert DOCUMENT["channels"][command]["address"] == f"varpulis.cluster.cmd.{{worker_id}}.{command}"
        assert DOCUMENT["operations"][command]["reply"] == {
            "channel": {"$ref": f"#/channels/{command}_answer"}
        }


def test_parameters_of_an_address_are_all_described() -> None:
    for name, channel in DOCUMENT["channels"].items():
        in_address = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert in_address == set(channel.get("parameters", {})), name


def test_a_schema_requires_what_the_struct_requires() -> None:
    schema = DOCUMENT["components"]["schemas"]["Register"]
    assert schema["required"] == [f.encode_name for f in msgspec.structs.fields(Register) if f.required]


def test_another_prefix_moves_every_address() -> None:
    addresses = [
        channel["address"] for channel in asyncapi("acme")["channels"].values() if channel["address"]
    ]
    assert all(address.startswith("acme.") for address in addresses)


def test_patterns_are_those_of_every_reader_of_a_schema() -> None:
    """ECMA-262 has no `\\A` and no `\\Z`."""
    schema = DOCUMENT["components"]["schemas"]["Register"]
    assert schema["properties"]["worker_id"]["pattern"] == "^[A-Za-z0-9_-]{1,64}$"


def test_the_document_is_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
