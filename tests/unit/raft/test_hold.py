"""The lock on a data directory, and that the directory itself outlives a power cut."""

import os
import shutil
from pathlib import Path

import pytest

from raft.disk import Disk
from raft.errors import DirectoryInUse
from raft.hold import DirectoryHold


def test_a_directory_is_held_once_whatever_the_path_to_it(tmp_path: Path) -> None:
    hold = DirectoryHold(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for path in (tmp_path / "data", tmp_path / "link", tmp_path / "data" / ".." / "data"):
        with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
            DirectoryHold(path)
    hold.release()
    DirectoryHold(tmp_path / "link").release()


def test_a_copy_of_a_held_directory_is_not_held(tmp_path: Path) -> None:
    """The lock is on the file, not in it; that two nodes run under one id is found on the bus."""
    hold = DirectoryHold(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    DirectoryHold(tmp_path / "copy").release()
    hold.release()


def test_a_new_directory_is_durable_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut takes it away whole, with votes that were given."""
    synced: list[Path] = []
    monkeypatch.setattr(Disk, "sync_directory", lambda self, path: synced.append(path))
    DirectoryHold(tmp_path / "a" / "b").release()
    assert {tmp_path, tmp_path / "a"} <= set(synced)
    synced.clear()
    DirectoryHold(tmp_path / "a" / "b").release()
    assert {tmp_path, tmp_path / "a"} <= set(synced), "who made it may have been killed before its sync"
