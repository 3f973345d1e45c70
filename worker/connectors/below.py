"""Files that programs may name: those below one directory, which whoever runs the worker has allowed.

A path is relative and is walked a part at a time, each opened in the one before and never through a symbolic
link. So neither `..` nor a link that somebody puts there in the meantime leads out, and there is no moment
between the check and the use. What is opened is a regular file: a pipe or a device could hang the worker.
"""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

MAX_PATH: Final = 512


class PathRefused(ValueError):
    """A path that no program may name, or no directory is allowed; the text says what would be right."""


def parts_of(path: object) -> tuple[str, ...]:
    """The parts of a path as a program gives it.

    Raises:
        PathRefused: absolute, empty, too long, or with a part that leads elsewhere.
    """
    if not isinstance(path, str) or not 0 < len(path) <= MAX_PATH:
        raise PathRefused(
            f'path must be text of 1 to {MAX_PATH} characters, such as path: "out/alerts.jsonl"'
        )
    parts = path.split("/")
    if any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise PathRefused(
            f"path {path[:80]!r} is not below the worker's files_dir: give a relative path without '..'"
        )
    return tuple(parts)


def open_below(root: Path | None, path: str, flags: int) -> int:
    """A descriptor of the regular file at `path` below `root`; with `O_CREAT` its directories are made.

    Raises:
        PathRefused: see `parts_of`; no root; or it leads through a link, or to what is no regular file.
        OSError: it is not there, or may not be opened.
    """
    if root is None:
        raise PathRefused("no file may be used on this worker: set worker.files_dir to the directory allowed")
    *directories, name = parts_of(path)
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in directories:
            if flags & os.O_CREAT:
                _make(directory, at)
            _refuse_link(directory, at, path)
            inner = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        _refuse_link(name, at, path)
        opened = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise PathRefused(f"path {path!r} is no regular file: name one")
    return opened


def event_type_of(path: str) -> str:
    """What events of a file are called that do not say it: its name without what follows a dot."""
    return PurePosixPath(path).name.partition(".")[0]


def _make(directory: str, at: int) -> None:
    try:
        os.mkdir(directory, 0o750, dir_fd=at)
    except FileExistsError:
        return


def _refuse_link(name: str, at: int, path: str) -> None:
    """For a text that says so; `O_NOFOLLOW` is what holds."""
    try:
        linked = stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode)
    except FileNotFoundError:
        return
    if linked:
        raise PathRefused(f"path {path!r} leads through the symbolic link {name!r}: name the file itself")
