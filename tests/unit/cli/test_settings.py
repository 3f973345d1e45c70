"""Where a value comes from, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.errors import UsageError
from cli.reference import PAGES, renewed
from cli.resolve import Settings
from cli.setting import Setting
from cli.settings import BY_KEY, SETTINGS

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "varpulis.toml"
    path.write_text("[up]\nworkers = 5\ndemo = false\n[nats]\nurl = ['nats://a:1', 'nats://b:2']\n")
    return path


def test_a_flag_wins_over_environment_over_file_over_default(toml: Path) -> None:
    environ = {"VARPULIS_UP_WORKERS": "4"}
    everywhere = Settings({"up.workers": "3"}, config=str(toml), environ=environ)
    assert (everywhere["up.workers"], everywhere.resolved("up.workers").origin) == (3, "--workers")
    no_flag = Settings({}, config=str(toml), environ=environ)
    assert (no_flag["up.workers"], no_flag.resolved("up.workers").origin) == (4, "VARPULIS_UP_WORKERS")
    only_file = Settings({}, config=str(toml), environ={})
    assert (only_file["up.workers"], only_file.resolved("up.workers").origin) == (5, f"{toml}: up.workers")
    nothing = Settings({}, environ={})
    assert (nothing["up.workers"], nothing.resolved("up.workers").given) == (2, False)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings(environ={"VARPULIS_UP_WORKERS": ""})["up.workers"] == 2


def test_lists_and_switches_read_the_same_from_text_and_from_toml(toml: Path) -> None:
    from_file = Settings(config=str(toml), environ={})
    from_text = Settings(environ={"VARPULIS_NATS_URL": "nats://a:1, nats://b:2", "VARPULIS_UP_DEMO": "false"})
    for settings in (from_file, from_text):
        assert settings["nats.url"] == ("nats://a:1", "nats://b:2")
        assert settings["up.demo"] is False


def test_a_flag_that_is_repeated_makes_one_list() -> None:
    assert Settings({"nats.url": ["nats://a:1", "nats://b:2,nats://c:3"]}, environ={})["nats.url"] == (
        "nats://a:1",
        "nats://b:2",
        "nats://c:3",
    )


def test_the_file_is_named_by_the_environment_when_no_flag_names_it(toml: Path) -> None:
    assert Settings(environ={"VARPULIS_CONFIG": str(toml)})["up.workers"] == 5


def test_a_file_in_the_working_directory_is_taken_unasked(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toml.parent)
    assert Settings(environ={})["up.workers"] == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[up]\nworker = 5\n", "did you mean 'up.workers'"),
        ("[ups]\nworkers = 5\n", "did you mean 'up.workers'"),
        ("workers = 5\n", "unknown setting 'workers'"),
        ("[up]\nworkers = 'many'\n", "is not a whole number from 0 to 64"),
        ("[up]\nworkers = 1.5\n", "is not a whole number"),
        ("[up]\nworkers = true\n", "is not a whole number"),
        ("[up]\nworkers = 65\n", "out of range"),
        ("[up]\ndemo = 'maybe'\n", "is not true or false"),
        ("[nats]\nurl = [1]\n", "is not a comma-separated list"),
        ("[up", "give a valid TOML file"),
        ("\x00", "give a valid TOML file"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        Settings(config=str(path), environ={})
    assert str(path) in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"no configuration file at nowhere\.toml"):
        Settings(config="nowhere.toml", environ={})


def test_a_missing_value_is_told_with_every_way_to_give_it() -> None:
    with pytest.raises(UsageError, match=r"--id, VARPULIS_WORKER_ID, or id under \[worker\]"):
        Settings(environ={}).required("worker.id")


def test_a_secret_is_in_no_listing_and_in_no_error() -> None:
    secret = Setting("x.key", "integer", 0, "a secret number", secret=True)
    with pytest.raises(UsageError) as refused:
        secret.read("hunter2", "VARPULIS_X_KEY")
    assert "hunter2" not in str(refused.value)
    assert secret.shown("hunter2") == "***"


def test_a_password_inside_a_url_is_not_shown() -> None:
    assert BY_KEY["nats.url"].shown(("nats://me:hunter2@host:4222",)) == ["nats://***@host:4222"]


def test_no_secret_can_be_given_on_a_command_line() -> None:
    assert [setting.key for setting in SETTINGS if setting.secret and setting.flag] == []


def test_keys_and_variables_are_unique() -> None:
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)


def test_a_variable_that_means_nothing_is_noticed() -> None:
    settings = Settings(environ={"VARPULIS_UP_WORKER": "3", "VARPULIS_CONFIG": "", "HOME": "/"})
    assert settings.unknown_variables == ["VARPULIS_UP_WORKER"]


@given(
    st.sampled_from(SETTINGS), st.text() | st.integers() | st.floats() | st.booleans() | st.lists(st.text())
)
def test_whatever_is_given_is_read_or_refused_as_wrong_usage(setting: Setting, given_value: Any) -> None:
    try:
        setting.read(given_value, "somewhere")
    except UsageError as error:
        assert "somewhere" in str(error)


@pytest.mark.parametrize(
    "setting", [one for one in SETTINGS if one.default is not None], ids=lambda one: one.key
)
def test_a_default_is_a_value_that_would_be_accepted(setting: Setting) -> None:
    assert setting.read(setting.default, "default") == setting.default


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_pages_are_what_the_tables_say(page: str) -> None:
    assert (DOCS / page).read_text() == renewed(page), "run `python -m cli.reference`"
