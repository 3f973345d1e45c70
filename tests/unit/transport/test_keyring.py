"""The cluster key file: what it holds, how it changes under a running process, what is never shown."""

import logging
import os
from pathlib import Path

import pytest

from transport.errors import ConfigError
from transport.keyring import KeyRing, new_key, read_secret, write_secret


def _replace(path: Path, text: str) -> None:
    """As an editor or a mounted secret does it: another file under the name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_the_first_key_signs_and_every_key_is_accepted() -> None:
    ring = KeyRing(text=f"# keys\n{new_key('b')}\n{new_key('a')}  # the old one\n")
    assert ring.signing.id == "b"
    assert [key.id for key in ring.keys] == ["b", "a"]
    assert ring.by_id("a") is ring.keys[1]
    assert ring.by_id("c") is None


def test_each_purpose_has_a_key_of_its_own() -> None:
    key = KeyRing(text=new_key("a")).signing
    assert key.derive("one") == key.derive("one")
    assert key.derive("one") != key.derive("two")
    assert len(key.derive("one")) == 32


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "a\n", "a b c\n", "a short\n", "a !!!!\n", "a/b " + "A" * 43, f"a {'Z' * 43}\n" * 2],
)
def test_a_file_that_holds_no_keys_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyRing(text=text)
    assert "short" not in str(caught.value)
    for word in text.split():
        assert len(word) < 20 or word not in str(caught.value)


def test_a_changed_file_is_taken_over_and_told_of(tmp_path: Path) -> None:
    path, old, new = tmp_path / "key", new_key("old"), new_key("new")
    path.write_text(old)
    ring, told = KeyRing(path), []
    ring.watch(lambda: told.append(ring.signing.id))
    assert not ring.refresh()
    _replace(path, new + old)
    assert ring.refresh()
    assert told == ["new"]
    assert [key.id for key in ring.keys] == ["new", "old"]


def test_half_a_rotation_leaves_the_keys_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, old = tmp_path / "key", new_key("old")
    path.write_text(old)
    ring = KeyRing(path)
    _replace(path, "new half-a-key")
    path.chmod(0o600)
    with caplog.at_level(logging.ERROR):
        assert not ring.refresh()
        assert not ring.refresh()
    assert ring.signing.id == "old"
    assert [record.levelname for record in caplog.records].count("ERROR") == 1, "told once, not once a second"
    path.unlink()
    assert not ring.refresh()
    _replace(path, new_key("new") + old)
    assert ring.refresh()


def test_no_repr_and_no_log_line_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, line, other = tmp_path / "key", new_key("old"), new_key("new")
    path.write_text(line)
    path.chmod(0o644)
    with caplog.at_level(logging.DEBUG):
        ring = KeyRing(path)
        _replace(path, other + line)
        ring.refresh()
    shown = f"{ring!r} {ring.keys!r} {caplog.text}"
    assert "chmod 600" in caplog.text
    for secret in (line.split()[1], other.split()[1]):
        assert secret not in shown


def test_a_secret_is_written_for_its_owner_only_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, "s3cret\n")
    assert os.stat(path).st_mode & 0o777 == 0o600  # noqa: PTH116
    assert read_secret(path, "api_key_file") == "s3cret"
    with pytest.raises(FileExistsError):
        write_secret(path, "other")


def test_a_secret_file_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"api_key_file .*cannot be read"):
        read_secret(tmp_path / "none", "api_key_file")
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="is empty"):
        read_secret(tmp_path / "empty", "api_key_file")
