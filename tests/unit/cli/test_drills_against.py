"""Where a key goes when a drill is done on a cluster that is not ours."""

from pathlib import Path

import pytest

from cli.invocation import Invocation
from cli.resolve import Settings
from cli.up import keys


def made(tmp_path: Path, **flags: object) -> Invocation:
    own = keys.admin(tmp_path)
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("key of our own cluster\n")
    own.chmod(0o600)
    return Invocation(Settings({"up.data_dir": str(tmp_path), **flags}, environ={}))


def test_the_key_of_the_data_directory_does_not_go_to_a_foreign_cluster(tmp_path: Path) -> None:
    call = made(tmp_path)
    assert "own cluster" in call.api_key()
    assert call.api_key(foreign=True) == ""


def test_a_key_that_was_given_does(tmp_path: Path) -> None:
    given = tmp_path / "given.key"
    given.write_text("given\n")
    given.chmod(0o600)
    assert made(tmp_path, **{"client.api_key_file": str(given)}).api_key(foreign=True) == "given"


@pytest.mark.parametrize("foreign", [True, False])
def test_a_key_of_the_environment_counts_as_given(tmp_path: Path, foreign: bool) -> None:
    environ = {"VARPULIS_API_KEY": "from the environment"}
    call = Invocation(Settings({"up.data_dir": str(tmp_path)}, environ=environ))
    assert call.api_key(foreign=foreign) == "from the environment"
