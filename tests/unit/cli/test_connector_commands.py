"""`varpulis connector`: what it sends for what it is told, and where secrets may stand."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

BUS: dict[str, Any] = {
    "name": "Bus",
    "connector_type": "nats",
    "params": {"servers": "nats://a", "token": "***", "user": "u"},
    "description": "old",
    "version": 3,
    "used_by": ["g/p"],
}


def ask(server: Coordinator, *arguments: str) -> list[tuple[str, str, Any]]:
    server.answer = json.dumps(BUS).encode()
    assert main(["connector", *arguments, "--url", server.url]) == 0
    return server.asked


def test_a_connector_is_made_of_words_and_of_a_file_for_what_is_secret(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text('{"token": "hunter2"}')
    with serving() as server:
        words = ("servers=nats://a", "connect_timeout=2", "--params-file", str(secrets))
        ((method, path, body),) = ask(server, "create", "Bus", "nats", *words)
    assert (method, path) == ("POST", "/connectors")
    params = {"servers": "nats://a", "connect_timeout": 2, "token": "hunter2"}
    assert body == {"name": "Bus", "connector_type": "nats", "params": params, "description": ""}


def test_an_update_changes_what_it_names_and_sends_hidden_secrets_back_as_they_came() -> None:
    with serving() as server:
        asked = ask(server, "update", "Bus", "servers=nats://b", "--remove", "user")
    assert [(method, path) for method, path, _ in asked] == [
        ("GET", "/connectors/Bus"),
        ("PUT", "/connectors/Bus"),
    ]
    assert asked[1][2] == {
        "name": "Bus",
        "connector_type": "nats",
        "params": {"servers": "nats://b", "token": "***"},
        "description": "old",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "Bus", "nats", "token"), "is not name=value"),
        (("create", "Bus", "nats", "--params-file", "nowhere.json"), "give a JSON object"),
        (("update", "Bus", "--remove", "nope"), "has no such parameter"),
    ],
)
def test_what_is_not_understood_is_wrong_usage(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        server.answer = json.dumps(BUS).encode()
        assert main(["connector", *arguments, "--url", server.url]) == 2
        assert not any(method != "GET" for method, _, _ in server.asked)
    assert says in capsys.readouterr().err
