"""Every message on the wire, byte for byte: `golden/NAME.KIND.json` is a compact `KIND`, fields in order."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proto_schemas import errors
from proto_schemas.codec import decode, encode
from proto_schemas.errors import WireError
from proto_schemas.messages import commands, deploys, events, membership, moves
from proto_schemas.messages.base import Message
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.events import Event, Inject
from proto_schemas.messages.membership import Heartbeat, Register
from proto_schemas.messages.moves import Restore

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def kind_of(path: Path) -> type[msgspec.Struct]:
    name = path.name.split(".")[1]
    rooms = (commands, deploys, events, membership, moves, errors)
    found: type[msgspec.Struct] = next(getattr(room, name) for room in rooms if hasattr(room, name))
    return found


def content(path: Path) -> bytes:
    return path.read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_message_is_written_as_it_was_read_byte_for_byte(path: Path) -> None:
    assert encode(decode(content(path), kind_of(path))) == content(path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_field_of_a_newer_peer_is_ignored(path: Path) -> None:
    document = msgspec.json.decode(content(path))
    newer = msgspec.json.encode({**document, "of_tomorrow": {"nested": [1]}})
    assert encode(decode(newer, kind_of(path))) == content(path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_seed_field_that_is_missing_is_refused_by_name(path: Path) -> None:
    document = msgspec.json.decode(content(path))
    required = [field.encode_name for field in msgspec.structs.fields(kind_of(path)) if field.required]
    for name in required:
        without = {key: value for key, value in document.items() if key != name}
        with pytest.raises(WireError, match=name):
            decode(msgspec.json.encode(without), kind_of(path))


def test_every_request_and_answer_of_a_command_has_a_golden_file() -> None:
    kinds = {kind_of(path) for path in GOLDEN}
    carried: set[type[Message]] = {kind for pair in COMMANDS.values() for kind in pair if kind is not None}
    assert carried <= kinds


@pytest.mark.parametrize(
    ("kind", "document", "path"),
    [
        (Register, {"capacity": {"cpu_cores": "8"}}, "$.capacity.cpu_cores"),
        (Register, {"capacity": {"cpu_cores": True}}, "$.capacity.cpu_cores"),
        (Register, {"worker_id": "a.b"}, "$.worker_id"),
        (Register, {"worker_id": "a" * 65}, "$.worker_id"),
        (Heartbeat, {"events_processed": -1}, "$.events_processed"),
        (Heartbeat, {"pipelines": [{"pipeline_id": 7}]}, "$.pipelines[0].pipeline_id"),
        (Deploy, {"name": 7}, "$.name"),
        (Deploy, {"name": "", "source": ""}, "$.name"),
        (Inject, {"pipeline_id": "p", "event_type": "E", "fields": []}, "$.fields"),
        (Restore, {"pipeline_id": "p", "checkpoint": 1}, "$.checkpoint"),
    ],
)
def test_a_wrong_value_is_refused_with_the_path_of_its_field(
    kind: type[msgspec.Struct], document: dict[str, Any], path: str
) -> None:
    with pytest.raises(WireError) as refused:
        decode(msgspec.json.encode(document), kind)
    assert refused.value.code == "bad_request"
    assert path in refused.value.error


def test_integers_of_an_event_stay_integers_whatever_their_size() -> None:
    fields = {"small": 1, "beyond_64_bits": 2**70, "zero": 0, "ratio": 1.0}
    event = decode(msgspec.json.encode({"event_type": "E", "fields": fields}), Event)
    assert event.fields == fields
    assert isinstance(event.fields["small"], int)
    assert isinstance(event.fields["ratio"], float)


def test_the_key_of_a_worker_is_not_in_the_repr_of_its_registration() -> None:
    request = decode(content(GOLDEN[0].parent / "register.Register.json"), Register)
    keyed = msgspec.structs.replace(request, api_key="s3cret-key")
    assert "s3cret-key" not in repr(keyed)
    assert "s3cret-key" not in f"{keyed}"
