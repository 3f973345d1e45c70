"""Contexts: clusters by name, in one file of the user's.

A context holds what `[client]` does: URLs, and paths of files of keys and certificates, never their text. The
file is `VARPULIS_CONTEXTS`, else `varpulis/contexts.toml` under `XDG_CONFIG_HOME`, else under `~/.config`:

    current = "production"

    [contexts.production]
    url = ["https://coordinator-0:9100", "https://coordinator-1:9100"]
    api_key_file = "/home/me/keys/production.key"

It is replaced in one step (write, sync, rename) by one writer at a time, and only its owner can read it.
"""

import difflib
import fcntl
import os
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.errors import CliError, UsageError
from cli.setting import Setting
from cli.settings import BY_KEY
from proto_schemas.subjects import check_id

KEYS: Final = (
    "client.url",
    "client.api_key_file",
    "client.tls_ca",
    "client.tls_cert",
    "client.tls_key",
    "client.timeout",
)
"""What a context may hold."""
_LOCK_WAIT: Final = 5.0
_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Contexts:
    """The file as it is. `known`: by name, each with its values by key of the setting; `current`: the one in
    use, or empty."""

    path: Path
    current: str = ""
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def named(self, name: str) -> Mapping[str, Any]:
        """The values of a context.

        Raises:
            UsageError: there is none of that name.
        """
        if name in self.known:
            return self.known[name]
        close = difflib.get_close_matches(name, self.known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`varpulis context list` tells which there are"
        raise UsageError(f"no context {name!r} in {self.path}: {hint}")


def place(setting: str, environ: Mapping[str, str]) -> Path | None:
    """Where the file is; None: nowhere, for a user without a home."""
    if setting:
        return Path(setting).expanduser()
    base = environ.get("XDG_CONFIG_HOME", "")
    if not Path(base).is_absolute():  # the standard says to ignore it then
        home = environ.get("HOME", "")
        if not home:
            return None
        base = str(Path(home) / ".config")
    return Path(base) / "varpulis" / "contexts.toml"


def load(path: Path) -> Contexts:
    """The contexts; none where there is no file.

    Raises:
        UsageError: it cannot be read, or holds what does not belong there.
    """
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Contexts(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}: correct it, or move it away") from None
    current, tables = document.pop("current", ""), document.pop("contexts", {})
    if document or not isinstance(current, str) or not isinstance(tables, dict):
        raise UsageError(f"{path}: only `current` and [contexts.NAME] belong there: correct it")
    known = {name: _read(path, name, table) for name, table in tables.items()}
    if current and current not in known:
        raise UsageError(f"{path}: current is {current!r}, which is not there: `varpulis context use NAME`")
    return Contexts(path, current, known)


def _read(path: Path, name: str, table: Any) -> dict[str, Any]:
    where = f"{path}: context {name}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no table: write it as [contexts.{name}]")
    values = {}
    for short, value in table.items():
        key = f"client.{short}"
        if key not in KEYS:
            known = ", ".join(one.partition(".")[2] for one in KEYS)
            raise UsageError(f"{where} holds {short!r}: give {known} only")
        values[key] = BY_KEY[key].read(value, f"{where}: {short}")
    return values


@contextmanager
def changing(path: Path) -> Iterator[list[Contexts]]:
    """The contexts in a list, whose content is written when the block ends; nobody else changes them until
    then.

    Raises:
        UsageError: as `load`.
        CliError: the file cannot be written, or somebody else has it for 5 s.
    """
    real = path.resolve()  # a link stays one
    try:
        real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        _lock(lock, path)
        held = [load(path)]
        yield held
        try:
            _replace(real, _text(held[0]))
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        os.close(lock)


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CliError(f"another process changes {path}: wait until it is done") from None
            time.sleep(_PAUSE)


def _replace(path: Path, text: str) -> None:
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # made for its owner only
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(fresh).unlink()
        raise


def _unwritable(path: Path, error: OSError) -> CliError:
    return CliError(f"{path} cannot be written: {error.strerror}: name another with VARPULIS_CONTEXTS")


def _text(contexts: Contexts) -> str:
    lines = ["# clusters by name: `varpulis context`"]
    if contexts.current:
        lines.append(f"current = {_toml(contexts.current)}")
    for name in sorted(contexts.known):
        lines += ["", f"[contexts.{_toml(name)}]"]
        for key, value in contexts.known[name].items():
            lines.append(f"{key.partition('.')[2]} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A string, number or list of strings; JSON's form of them is TOML's too, but for DEL."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def checked_name(name: str) -> str:
    """A name that can be one.

    Raises:
        UsageError: it cannot.
    """
    try:
        return check_id(name, "name of a context")
    except ValueError as error:
        raise UsageError(str(error)) from None


def checked_value(setting: Setting, value: Any) -> Any:
    """A value as a context may hold it: paths absolute, no secret.

    Raises:
        UsageError: it holds a secret, or is no URL.
    """
    if setting.key == "client.url":
        for url in value:
            if "@" in url or not url.startswith(("http://", "https://")):
                raise UsageError(
                    f"{setting.shown(url)} is not for a context: write http://HOST:PORT, without a user"
                )
        return value
    if setting.kind != "text" or not value:
        return value
    if value.startswith("vk_"):
        raise UsageError(
            f"{setting.flag} is a key: write it into a file that only you can read, and name that"
        )
    path = str(Path(value).expanduser().absolute())
    if not path.isprintable():
        raise UsageError(f"{setting.flag} {path!r} holds what does not print: name another file")
    return path
