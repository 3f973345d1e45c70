"""The commands of a worker as requests of HTTP: the second carrier, from the same table.

    POST   /api/v1/pipelines                        deploy
    DELETE /api/v1/pipelines/{id}                   undeploy, its other fields in the query
    POST   /api/v1/pipelines/{id}/events            inject
    POST   /api/v1/pipelines/{id}/events-batch      inject_batch
    POST   /api/v1/pipelines/{id}/{command}         each other command that names a pipeline
    POST   /api/v1/{command}                        each other command

The body is the message of the command without its `pipeline_id`, which stands in the path; the answer is the
one of NATS, with the status of `errors.HTTP_STATUS`. A command that is added to `COMMANDS` is served with
that.
"""

from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from proto_schemas.codec import convert, decode, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.base import Message
from proto_schemas.messages.commands import COMMANDS

BASE: Final = "/api/v1"
KEY_HEADER: Final = "x-api-key"
"""What the asked asks for: a coordinator its own keys, a worker the key that it chose."""
WORKER_KEY_HEADER: Final = "x-worker-key"
"""The key that a worker chose, told to coordinators beside its registration and its heartbeats."""

_PIPELINES: Final = f"{BASE}/pipelines"
_WORDS: Final = {"inject": "events", "inject_batch": "events-batch"}
_COMMANDS: Final = {word: command for command, word in _WORDS.items()}


def to_request(command: str, message: msgspec.Struct) -> tuple[str, str, bytes]:
    """Method, target and body of a command."""
    pipeline_id = getattr(message, "pipeline_id", None)
    if command == "deploy":
        return "POST", _PIPELINES, encode(message)
    if pipeline_id is None:
        return "POST", f"{BASE}/{command}", encode(message)
    path = f"{_PIPELINES}/{quote(pipeline_id, safe='')}"
    if command == "undeploy":
        fields = msgspec.to_builtins(message)
        del fields["pipeline_id"]
        return "DELETE", path + (f"?{urlencode(fields)}" if fields else ""), b""
    return "POST", f"{path}/{_WORDS.get(command, command)}", encode(message)


def route_of(method: str, path: str) -> tuple[str, str, str | None]:
    """Command, route template and pipeline id of a request; `path` is the raw one.

    Raises:
        WireError: `unknown_command` (404; 405 when only the method is wrong).
    """
    parts = path.removeprefix(f"{BASE}/").split("/") if path.startswith(f"{BASE}/") else []
    match parts:
        case ["pipelines"]:
            return _with_method(method, "POST", "deploy", _PIPELINES, None)
        case ["pipelines", pipeline_id] if pipeline_id:
            return _with_method(method, "DELETE", "undeploy", f"{_PIPELINES}/{{id}}", unquote(pipeline_id))
        case ["pipelines", pipeline_id, word] if pipeline_id:
            command = _COMMANDS.get(word, word)
            if command not in ("deploy", "undeploy") and word not in _WORDS and _names_pipeline(command):
                return _with_method(
                    method, "POST", command, f"{_PIPELINES}/{{id}}/{word}", unquote(pipeline_id)
                )
        case [command] if command in COMMANDS and command != "deploy" and not _names_pipeline(command):
            return _with_method(method, "POST", command, f"{BASE}/{command}", None)
    raise WireError(
        ErrorCode.UNKNOWN_COMMAND, f"there is nothing at {path[:80]!r}: see wire.md for the commands"
    )


def read_request(command: str, pipeline_id: str | None, query: str, body: bytes) -> Message:
    """The message of a command that came as a request.

    Raises:
        WireError: `bad_request`, with the path of the field; 413.
    """
    kind = COMMANDS[command][0]
    if command == "undeploy":
        try:
            given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=16))
        except ValueError as error:
            raise WireError(ErrorCode.BAD_REQUEST, f"{kind.__name__}: the query: {error}") from None
        return convert(given | {"pipeline_id": pipeline_id}, kind, strict=False)
    if pipeline_id is None:
        return decode(body or b"{}", kind)
    given = decode(body or b"{}", dict[str, Any])
    if given.setdefault("pipeline_id", pipeline_id) != pipeline_id:
        text = f"{kind.__name__}: $.pipeline_id is another than that of the path: leave it out"
        raise WireError(ErrorCode.BAD_REQUEST, text)
    return convert(given, kind)


def _names_pipeline(command: str) -> bool:
    return command in COMMANDS and "pipeline_id" in COMMANDS[command][0].__struct_fields__


def _with_method(
    method: str, wanted: str, command: str, route: str, pipeline_id: str | None
) -> tuple[str, str, str | None]:
    if method != wanted:
        text = f"{method[:16]} is not for {route}: use {wanted}"
        raise WireError(ErrorCode.UNKNOWN_COMMAND, text, status=405)
    return command, route, pipeline_id
