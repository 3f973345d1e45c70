"""Clusters by name: which source counts, where keys never go, and a file that is whole at any time."""

import json
import os
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli import contexts
from cli.contexts import Contexts
from cli.errors import CliError, UsageError
from cli.invocation import Invocation
from cli.main import main
from cli.resolve import Settings
from cli.up import record
from tests.unit.cli.stand_in import Coordinator, served

PRODUCTION = {"client.url": ("https://prod:1",), "client.api_key_file": "/keys/prod", "client.timeout": 7.0}
TEST = {"client.url": ("http://test:1", "http://test:2")}


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where contexts are kept; the working directory is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "configuration" / "contexts.toml"
    monkeypatch.setenv("VARPULIS_CONTEXTS", str(path))
    return path


@pytest.fixture
def kept(file: Path) -> Path:
    """With two contexts, of which none is in use."""
    write(file, current="")
    return file


def write(path: Path, *, current: str) -> None:
    with contexts.changing(path) as held:
        held[0] = Contexts(path, current, {"prod": PRODUCTION, "test": TEST})


def resolve(file: Path, flags: dict[str, Any] | None = None, **environ: str) -> Settings:
    return Settings(flags, environ={"VARPULIS_CONTEXTS": str(file), **environ})


def origin(found: Settings, key: str) -> str:
    return found.resolved(key).origin


# -- which source counts


def test_a_context_in_use_counts_above_defaults_and_below_everything_else(file: Path) -> None:
    write(file, current="prod")
    found = resolve(file)
    assert found["client.url"] == ("https://prod:1",) and found["client.timeout"] == 7.0
    assert origin(found, "client.url") == f"context prod ({file})"
    assert origin(found, "client.tls_ca") == "default"
    Path("varpulis.toml").write_text("[client]\ntimeout = 3.0\n")
    assert resolve(file)["client.timeout"] == 3.0
    assert resolve(file, VARPULIS_TIMEOUT="4")["client.timeout"] == 4.0
    assert resolve(file, {"client.timeout": "5"}, VARPULIS_TIMEOUT="4")["client.timeout"] == 5.0


def test_a_context_named_by_a_variable_counts_like_variables(kept: Path) -> None:
    Path("varpulis.toml").write_text("[client]\ntimeout = 3.0\nurl = ['http://file:1']\n")
    found = resolve(kept, VARPULIS_CONTEXT="prod")
    assert (found["client.timeout"], found["client.url"]) == (7.0, ("https://prod:1",))
    assert resolve(kept, VARPULIS_CONTEXT="prod", VARPULIS_TIMEOUT="4")["client.timeout"] == 4.0
    assert resolve(kept, {"client.timeout": "5"}, VARPULIS_CONTEXT="prod")["client.timeout"] == 5.0


def test_a_context_named_by_a_flag_counts_like_flags_but_single_flags_win(kept: Path) -> None:
    environ = {"VARPULIS_TIMEOUT": "4", "VARPULIS_URL": "http://variable:1", "VARPULIS_CONTEXT": "test"}
    found = resolve(kept, {"client.context": "prod"}, **environ)
    assert (found["client.timeout"], found["client.url"]) == (7.0, ("https://prod:1",))
    found = resolve(kept, {"client.context": "prod", "client.timeout": "5"}, **environ)
    assert (found["client.timeout"], found["client.url"]) == (5.0, ("https://prod:1",))


def test_a_context_that_the_file_of_settings_names_counts_below_that_file(kept: Path) -> None:
    Path("varpulis.toml").write_text("[client]\ncontext = 'prod'\ntimeout = 3.0\n")
    found = resolve(kept)
    assert (found["client.timeout"], found["client.url"]) == (3.0, ("https://prod:1",))


def test_an_empty_name_means_none_this_once(file: Path) -> None:
    write(file, current="prod")
    assert resolve(file, {"client.context": ""})["client.url"] is None


def test_without_a_context_all_is_as_before(kept: Path) -> None:
    found = resolve(kept)
    assert found["client.url"] is None and origin(found, "client.url") == "default"
    assert not found.from_context("client.url")


def test_the_cluster_that_runs_here_is_meant_unless_a_context_is_chosen(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    ours = record.Process(
        role="coordinator",
        id="coordinator-0",
        port=4711,
        pid=os.getpid(),
        created=psutil.Process().create_time(),
    )
    Path(".varpulis").mkdir()
    known = record.Record(
        cluster_id="c", http_port=4711, nats_port=1, coordinators=1, workers=0, processes=[ours]
    )
    record.save(Path(".varpulis"), known)
    assert Invocation(resolve(kept)).urls() == ["http://127.0.0.1:4711"]
    assert Invocation(resolve(kept, VARPULIS_CONTEXT="test")).urls() == list(TEST["client.url"])


# -- where keys never go


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ({"client.url": ["http://else:1"]}, {}),
        ({"client.url": ["http://else:1"]}, {"VARPULIS_CONTEXT": "prod"}),
        ({}, {"VARPULIS_URL": "http://else:1"}),
        ({}, {"VARPULIS_URL": "http://else:1", "VARPULIS_CONTEXT": "prod"}),
    ],
)
def test_the_key_of_a_context_goes_to_no_url_but_its_own(
    file: Path, flags: dict[str, Any], environ: dict[str, str]
) -> None:
    write(file, current="prod")
    found = resolve(file, flags, **environ)
    assert found["client.url"] == ("http://else:1",)
    assert found["client.api_key_file"] == "" and found["client.timeout"] == 10.0


def test_nor_where_the_file_of_settings_gives_the_url(file: Path) -> None:
    write(file, current="prod")
    Path("varpulis.toml").write_text("[client]\nurl = ['http://else:1']\n")
    assert resolve(file)["client.api_key_file"] == ""


def test_nor_to_coordinators_that_a_command_names_by_itself(file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("hunter2")
    with contexts.changing(file) as held:
        held[0] = Contexts(file, "p", {"p": {**PRODUCTION, "client.api_key_file": str(key)}})
    call = Invocation(resolve(file))
    assert call.api_key() == "hunter2" and call.api_key(foreign=True) == ""


def test_a_flag_may_choose_one_coordinator_of_a_context_that_it_names_as_well(kept: Path) -> None:
    found = resolve(kept, {"client.context": "prod", "client.url": ["https://prod:2"]})
    assert (found["client.url"], found["client.api_key_file"]) == (("https://prod:2",), "/keys/prod")


def test_a_key_that_is_given_counts_above_the_key_file_of_a_weaker_context(file: Path) -> None:
    write(file, current="prod")
    assert Invocation(resolve(file, VARPULIS_API_KEY="hunter2")).api_key() == "hunter2"
    strong = resolve(file, {"client.context": "prod"}, VARPULIS_API_KEY="hunter2")
    assert strong["client.api_key_file"] == "/keys/prod"


def test_a_command_asks_the_cluster_of_its_context_with_its_key(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("hunter2")
    with served(Coordinator()) as server:
        server.answer = json.dumps({"role": "admin", "key_id": "k", "keys_required": True}).encode()
        key = ["--api-key-file", str(tmp_path / "key")]
        assert main(["context", "set", "mine", "--url", server.url, *key]) == 0
        assert main(["whoami", "--context", "mine"]) == 0
        assert main(["context", "use", "mine"]) == 0
        assert main(["whoami"]) == 0
        assert server.keys == ["hunter2", "hunter2"]
    assert "hunter2" not in file.read_text() + capsys.readouterr().out


# -- the commands


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_context_is_made_changed_used_and_deleted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = shown(
        capsys,
        "context",
        "set",
        "a",
        "--url",
        "http://a:1,http://a:2",
        "--tls-ca",
        "ca.pem",
        "--timeout",
        "4",
    )
    assert made == {
        "name": "a",
        "current": False,
        "url": ["http://a:1", "http://a:2"],
        "tls_ca": str(Path("ca.pem").absolute()),
        "timeout": 4.0,
    }
    assert shown(capsys, "context", "set", "a", "--tls-ca", "")["url"] == ["http://a:1", "http://a:2"]
    assert shown(capsys, "context", "use", "a") == {"current": "a"}
    listed = shown(capsys, "context", "list")
    assert listed["current"] == "a" and listed["file"] == str(file)
    assert listed["contexts"] == [
        {"name": "a", "current": True, "url": ["http://a:1", "http://a:2"], "timeout": 4.0}
    ]
    assert shown(capsys, "context", "show")["name"] == "a"
    assert shown(capsys, "context", "use", "--none") == {"current": None}
    assert main(["context", "show"]) == 2
    assert shown(capsys, "context", "show", "a")["current"] is False
    assert main(["context", "use", "a"]) == 0
    capsys.readouterr()
    assert shown(capsys, "context", "delete", "a") == {"deleted": "a", "was_in_use": True}
    assert shown(capsys, "context", "list")["contexts"] == []


def test_config_show_tells_the_context_that_a_value_comes_from(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, current="test")
    for arguments, name in (([], "test"), (["--context", "prod"], "prod")):
        values = {one["key"]: one for one in shown(capsys, "config", "show", *arguments)["settings"]}
        assert values["client.url"]["origin"] == f"context {name} ({file})"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["context", "set", "a"], "nothing to set"),
        (["context", "set", "a", "--timeout", "3"], "context a has no URL"),
        (["context", "set", "a.b", "--url", "http://a:1"], "a.b"),
        (["context", "set", "a", "--url", "http://me:hunter2@a:1"], "without a user"),
        (["context", "set", "a", "--url", "a:1"], "write http://HOST:PORT"),
        (["context", "set", "a", "--url", "http://a:1", "--api-key-file", "vk_1_hunter2"], "is a key"),
        (["context", "set", "a", "--url", "http://a:1", "--tls-ca", "a\nb"], "does not print"),
        (["context", "use"], "give the name of a context, or --none"),
        (["context", "use", "a", "--none"], "give the name of a context, or --none"),
        (["context", "use", "prd"], "did you mean 'prod'"),
        (["context", "show", "nothing"], "no context 'nothing'"),
        (["context", "delete", "nothing"], "no context 'nothing'"),
        (["status", "--context", "prd"], "no context 'prd'"),
    ],
)
def test_wrong_usage_changes_nothing_and_shows_no_secret(
    arguments: list[str], says: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept.read_text()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said and "hunter2" not in said
    assert kept.read_text() == before


def test_a_variable_of_the_moment_is_not_written_into_a_context(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARPULIS_TIMEOUT", "4")
    assert main(["context", "set", "a", "--url", "http://a:1"]) == 0
    assert contexts.load(file).known == {"a": {"client.url": ("http://a:1",)}}


# -- the file


def test_the_file_is_for_its_owner_only_and_leaves_nothing_beside_it(kept: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    link = tmp_path / "contexts.toml"
    link.symlink_to(tmp_path / "dotfiles" / "contexts.toml")
    write(link, current="prod")
    assert link.is_symlink() and contexts.load(link).current == "prod"


def test_what_cannot_be_written_leaves_the_file_as_it_was(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CliError, match="No space left on device: name another"):
        write(kept, current="prod")
    assert contexts.load(kept).current == ""
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_writers_at_the_same_time_lose_nothing(file: Path) -> None:
    def add(number: int) -> None:
        with contexts.changing(file) as held:
            known = {**held[0].known, f"c{number}": TEST}
            held[0] = Contexts(file, "", known)

    writers = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(contexts.load(file).known) == [f"c{number}" for number in range(8)]


def test_a_writer_that_waits_too_long_says_so(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_LOCK_WAIT", 0.0)
    with contexts.changing(kept), pytest.raises(CliError, match="another process changes"):
        write(kept, current="prod")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\x7f" in text or "\n" in text))
def test_whatever_a_path_holds_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return
    known = {"a": {"client.url": ("http://a:1",), "client.tls_ca": text}}
    written = contexts._text(Contexts(tmp_path, "a", known))
    assert tomllib.loads(written)["contexts"]["a"]["tls_ca"] == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[contexts", "cannot be read"),
        ("other = 1", "only `current` and"),
        ("current = 1", "only `current` and"),
        ("current = 'x'", "current is 'x', which is not there"),
        ("contexts.a = 1", "is no table"),
        ("[contexts.a]\napi_key = 'hunter2'", "holds 'api_key'"),
        ("[contexts.a]\ntimeout = 'long'", "is not a number"),
    ],
)
def test_a_file_that_is_none_is_told_and_only_to_who_needs_it(
    text: str, says: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert main(["status"]) == 2
    said = capsys.readouterr().err
    assert says in said and str(file) in said and "hunter2" not in said
    assert main(["version"]) == 0, "who asks no cluster needs no contexts"


def test_it_lies_where_the_standard_says(tmp_path: Path) -> None:
    assert contexts.place("", {"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/varpulis/contexts.toml")
    assert contexts.place("", {"XDG_CONFIG_HOME": "x", "HOME": "/h"}) == Path(
        "/h/.config/varpulis/contexts.toml"
    )
    assert contexts.place("", {}) is None
    assert contexts.place("/f.toml", {"HOME": "/h"}) == Path("/f.toml")
    assert Settings(environ={}).contexts is None
    with pytest.raises(UsageError, match="there is no file of contexts"):
        _ = Settings(environ={"VARPULIS_CONTEXT": "a"})["client.url"]


def test_no_test_reads_what_the_user_of_this_machine_has_configured() -> None:
    place = contexts.place("", os.environ)
    assert place is not None and not place.exists()
    assert place.parents[1].name == "varpulis-tests-no-configuration"


def test_names_of_contexts_are_completed(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "words", "contexts"]) == 0
    assert capsys.readouterr().out == "prod\ntest\n"
