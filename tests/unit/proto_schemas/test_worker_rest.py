"""The commands as HTTP requests: what is sent is what is read, for every command of the table."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.errors import WireError
from proto_schemas.messages.base import Message
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.deploys import Deploy, Route, Undeploy
from proto_schemas.messages.events import Inject, InjectBatch
from proto_schemas.messages.moves import CheckpointRequest, Drain, Restore
from proto_schemas.worker_rest import read_request, route_of, to_request

FENCE: dict[str, Any] = {"term": 3, "epoch": 2**53, "request_id": "5"}
ROUTE = Route(from_pipeline="a", to_pipeline="p", event_types=["*"])
EACH: dict[str, Message] = {
    "deploy": Deploy(name="p", source="s", group="g", routes=[ROUTE], **FENCE),
    "undeploy": Undeploy(pipeline_id="p-1", **FENCE),
    "inject": Inject(pipeline_id="p-1", event_type="E", fields={"n": 2**70, "t": "ü"}, **FENCE),
    "inject_batch": InjectBatch(pipeline_id="p-1", events=[{"event_type": "E"}, 7], **FENCE),
    "checkpoint": CheckpointRequest(pipeline_id="p-1", **FENCE),
    "restore": Restore(pipeline_id="p-1", checkpoint={"v": 1}, **FENCE),
    "drain": Drain(**FENCE),
}


def back(command: str, message: Message) -> Message:
    method, target, body = to_request(command, message)
    path, _, query = target.partition("?")
    found, _, pipeline_id = route_of(method, path)
    assert found == command
    return read_request(found, pipeline_id, query, body)


def test_every_command_survives_the_way() -> None:
    assert set(EACH) <= set(COMMANDS)
    for command, message in EACH.items():
        assert back(command, message) == message


def test_each_command_has_a_route_of_its_own() -> None:
    routes = {route_of(*_line(command))[1:2] + _line(command)[:1] for command in COMMANDS}
    assert len(routes) == len(COMMANDS)


def _line(command: str) -> tuple[str, str]:
    names_pipeline = "pipeline_id" in COMMANDS[command][0].__struct_fields__
    message = msgspec.defstruct("M", [("pipeline_id", str)] if names_pipeline else [])
    method, target, _ = to_request(command, message(*(["p-1"] if names_pipeline else [])))
    return method, target


@given(st.text(min_size=1, max_size=50))
def test_a_pipeline_id_of_any_letters_comes_back(pipeline_id: str) -> None:
    if not pipeline_id.isprintable():  # surrogates cannot be quoted; ids are never such
        return
    for command in ("undeploy", "checkpoint"):
        kind = COMMANDS[command][0]
        assert back(command, kind(pipeline_id=pipeline_id)) == kind(pipeline_id=pipeline_id)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.text() | st.text().map("/api/v1/{}".format) | st.text().map("/api/v1/pipelines/{}".format),
    query=st.text(),
    body=st.binary(),
)
def test_whatever_is_asked_is_a_message_or_a_typed_refusal(
    method: str, path: str, query: str, body: bytes
) -> None:
    try:
        command, route, pipeline_id = route_of(method, path)
        assert isinstance(read_request(command, pipeline_id, query, body), COMMANDS[command][0])
        assert route.startswith("/api/v1/")
    except WireError as error:
        assert error.status in (400, 404, 405, 413)


def test_a_wrong_method_says_which_is_right() -> None:
    with pytest.raises(WireError, match="use DELETE") as refusal:
        route_of("POST", "/api/v1/pipelines/p-1")
    assert refusal.value.status == 405
