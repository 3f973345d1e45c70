"""The commands about keys: what they send, where a key goes, and where it never is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.catalog import COMMANDS
from cli.main import main
from cli.settings import SETTINGS
from coordinator.security.keys import new_key, parse_key
from tests.unit.cli.stand_in import Coordinator, serving
from transport.keyring import KeyRing

KEY = new_key()
MADE = {"id": KEY.id, "role": "viewer", "key": KEY.text, "expires_at": None}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        server.answer = json.dumps(MADE).encode()
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["create", "viewer"], ("POST", "/keys", {"role": "viewer", "note": "", "expires_in_secs": 0})),
        (
            ["create", "admin", "--note", "n", "--expires-in", "60"],
            ("POST", "/keys", {"role": "admin", "note": "n", "expires_in_secs": 60}),
        ),
        (
            ["create", "worker", "--worker", "edge-*"],
            ("POST", "/keys", {"role": "worker", "note": "", "expires_in_secs": 0, "worker": "edge-*"}),
        ),
        (["rotate", "abcd"], ("POST", "/keys/abcd/rotate", {"overlap_secs": 86400})),
        (["rotate", "a/b", "--overlap", "0"], ("POST", "/keys/a%2Fb/rotate", {"overlap_secs": 0})),
    ],
)
def test_a_key_that_was_made_is_shown_once_or_goes_to_a_file_of_its_owners(
    coordinator: Coordinator, arguments: list[str], asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", *arguments]) == 0
    shown = capsys.readouterr()
    assert coordinator.asked == [asked]
    assert shown.out.strip() == KEY.text and KEY.secret not in shown.err
    assert main(["key", *arguments, "--to", "k"]) == 0
    assert Path("k").read_text().strip() == KEY.text
    assert Path("k").stat().st_mode & 0o777 == 0o600
    assert main(["key", *arguments, "--to", "j", "-o", "json"]) == 0
    shown = capsys.readouterr()
    assert KEY.secret not in shown.out + shown.err


def test_a_file_that_is_there_costs_no_key(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("k").write_text("mine")
    for arguments in (["create", "viewer"], ["rotate", "abcd"]):
        assert main(["key", *arguments, "--to", "k"]) == 1
        assert main(["key", *arguments, "--to", "no/such/place"]) == 1
    assert coordinator.asked == [] and Path("k").read_text() == "mine"
    assert "name another file" in capsys.readouterr().err


def test_a_listing_and_a_revocation(coordinator: Coordinator, capsys: pytest.CaptureFixture[str]) -> None:
    view = {"id": "abcd", "role": "admin", "status": "active", "note": "x", "created_at": 1_000}
    view |= {"expires_at": None, "revoked_at": None, "replaced_by": None}
    coordinator.answer = json.dumps({"keys": [view], "total": 1}).encode()
    assert main(["key", "list"]) == 0
    assert "abcd" in capsys.readouterr().out
    assert main(["key", "revoke", "abcd"]) == 0
    assert main(["key", "revoke", "abcd", "--force"]) == 0
    assert [one[:2] for one in coordinator.asked] == [
        ("GET", "/keys?limit=1000"),
        ("DELETE", "/keys/abcd"),
        ("DELETE", "/keys/abcd?force=true"),
    ]


def test_a_wrong_role_is_wrong_usage(coordinator: Coordinator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "create", "root"]) == 2
    assert "worker, viewer, operator, admin" in capsys.readouterr().err and not coordinator.asked


def test_key_files_are_made_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["key", "new", "admin.key"]) == 0
    assert main(["key", "new", "cluster.key", "--cluster", "-o", "json"]) == 0
    key = parse_key(Path("admin.key").read_text().strip())
    assert key is not None
    ring = KeyRing(Path("cluster.key"))
    for path in ("admin.key", "cluster.key"):
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert main(["key", "new", path]) == 1
    said = capsys.readouterr()
    assert key.id in said.out and ring.signing.id in said.out
    assert key.secret not in said.out + said.err


@pytest.mark.parametrize("way", ["variable", "file variable", "flag", "config"])
def test_the_key_is_sent_however_it_was_given_and_shown_nowhere(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    Path("my.key").write_text(KEY.text + "\n")
    flags: list[str] = []
    if way == "variable":
        monkeypatch.setenv("VARPULIS_API_KEY", KEY.text)
    elif way == "file variable":
        monkeypatch.setenv("VARPULIS_API_KEY_FILE", "my.key")
    elif way == "flag":
        flags = ["--api-key-file", "my.key"]
    else:
        Path("varpulis.toml").write_text('[client]\napi_key_file = "my.key"\n')
    coordinator.answer = b'{"keys":[],"total":0}'
    assert main(["key", "list", *flags]) == 0
    assert coordinator.keys == [KEY.text]
    coordinator.status, coordinator.answer = 401, b'{"error":"no","code":"unauthorized"}'
    assert main(["key", "list", *flags]) == 1
    assert main(["config", "show"]) == 0
    assert main(["config", "show", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert KEY.secret not in said.out + said.err


def test_a_key_file_that_cannot_be_read_is_wrong_usage(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "list", "--api-key-file", "none"]) == 2
    assert "none cannot be read" in capsys.readouterr().err and not coordinator.asked


def test_the_key_of_a_data_directory_goes_to_no_url_that_was_named(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".varpulis/keys").mkdir(parents=True)
    Path(".varpulis/keys/admin.key").write_text(KEY.text)
    coordinator.answer = b'{"keys":[],"total":0}'
    assert main(["key", "list"]) == 0
    assert coordinator.keys == [None]


def test_no_secret_can_be_given_on_a_command_line() -> None:
    """A command line is visible to every user of the machine; a file's path may be."""
    for setting in SETTINGS:
        assert not (setting.secret and setting.flag), setting.key
    for command in COMMANDS:
        words = [option.flag for option in command.options] + [one.name for one in command.arguments]
        assert not {"--api-key", "--key", "--secret", "--password", "key"} & set(words), command.name
