"""The wire as an AsyncAPI 3.0 document, generated from the Structs that are really decoded.

Channels are the subject table, messages and schemas come from `proto_schemas.json_schema`, so the
document cannot tell of a field that the code does not have. Operations are told from the coordinators'
side.
"""

from typing import Any, Final

import msgspec

from proto_schemas.errors import ErrorReply
from proto_schemas.json_schema import REFERENCE, components
from proto_schemas.messages.base import Message
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.events import Event
from proto_schemas.messages.membership import Heartbeat, HeartbeatAck, Register, Registered
from proto_schemas.messages.moves import CheckpointRef
from proto_schemas.subjects import DEFAULT_PREFIX, ID_PATTERN

_FREE_FORM: Final = "Checkpoint"
_VERSION: Final = "1.0.0"


def asyncapi(prefix: str = DEFAULT_PREFIX) -> dict[str, Any]:
    """The document; `prefix` is that of the cluster's subjects."""
    channels = {name: _channel(prefix, *row) for name, row in _channel_rows().items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Varpulis cluster transport",
            "version": _VERSION,
            "description": "JSON over core NATS. Unknown fields are ignored; a wrong type is refused.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": dict(_operations()),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel_rows() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Channel -> (address below the prefix, what it is for, messages it carries)."""
    rows = {
        "register": ("register", "a worker asks to be a member; one coordinator answers", ("Register",)),
        "registered": ("{reply}", "answer to a registration", ("Registered", "ErrorReply")),
        "heartbeat": ("heartbeat.{worker_id}", "a worker is alive, and what runs on it", ("Heartbeat",)),
        "heartbeat_ack": (
            "{reply}",
            "the leader's answer to a heartbeat that has a reply subject",
            ("HeartbeatAck",),
        ),
        "relay": (
            "relay.{worker_id}",
            "the heartbeat of a worker that speaks REST, for the coordinators that did not take it",
            ("Heartbeat",),
        ),
        "pipeline": (
            "pipeline.{group}.{from}.{to}",
            "events from one pipeline of a group to another; `_external` as {from} for events from outside",
            ("Event",),
        ),
    }
    for command, (request, answer) in COMMANDS.items():
        subject = f"cmd.{{worker_id}}.{command}"
        rows[command] = (subject, f"the leader tells a worker to {command}", (request.__name__,))
        answers = (answer.__name__,) if answer else (_FREE_FORM, "CheckpointRef")
        rows[f"{command}_answer"] = ("{reply}", f"answer to {command}", (*answers, "ErrorReply"))
    return rows


def _channel(prefix: str, address: str, summary: str, names: tuple[str, ...]) -> dict[str, Any]:
    parameters = {
        name: {"description": f"matches {ID_PATTERN}"}
        for name in ("worker_id", "group", "from", "to")
        if f"{{{name}}}" in address
    }
    return {
        "address": None if address == "{reply}" else f"{prefix}.{address}",
        "summary": summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        **({"parameters": parameters} if parameters else {}),
    }


def _operations() -> list[tuple[str, dict[str, Any]]]:
    def operation(action: str, channel: str, reply: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
        if reply:
            found["reply"] = {"channel": {"$ref": f"#/channels/{reply}"}}
        return found

    return [
        ("register", operation("receive", "register", "registered")),
        ("heartbeat", operation("receive", "heartbeat", "heartbeat_ack")),
        ("relay", operation("send", "relay")),
        ("pipeline", operation("send", "pipeline")),
        *((command, operation("send", command, f"{command}_answer")) for command in COMMANDS),
    ]


def _carried() -> list[type[msgspec.Struct]]:
    requests: list[type[Message]] = [request for request, _ in COMMANDS.values()]
    answers: list[type[Message]] = [answer for _, answer in COMMANDS.values() if answer]
    others = (Register, Registered, Heartbeat, HeartbeatAck)
    unique: dict[type[msgspec.Struct], None] = dict.fromkeys(
        [*others, *requests, *answers, CheckpointRef, Event]
    )
    return [*unique, ErrorReply]


def _messages() -> dict[str, Any]:
    named = {
        kind.__name__: {"name": kind.__name__, "payload": {"$ref": REFERENCE.format(name=kind.__name__)}}
        for kind in _carried()
    }
    checkpoint = {
        "name": _FREE_FORM,
        "payload": {"type": "object", "description": "the state of one pipeline"},
    }
    return {**named, _FREE_FORM: checkpoint}


def _schemas() -> dict[str, Any]:
    return components(_carried())[1]
