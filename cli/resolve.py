"""Which value counts: flags before environment before the TOML file before the context before defaults, each
with its origin.

A context (`cli.contexts`) stands where it was chosen: named by `--context` right behind the flags, by
`VARPULIS_CONTEXT` right behind the other variables, and one that is in use, or that the TOML file names,
behind that file. Its keys are for its own URLs: where a stronger source gives the URL, a context that no flag
names counts for nothing. The file of contexts is read when somebody asks for what one may hold.

The file is `--config FILE`, else `VARPULIS_CONFIG`, else `./varpulis.toml` where there is one. A file
that was named must exist; every section and key in it must be known.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli.contexts import KEYS as IN_CONTEXTS
from cli.contexts import Contexts, load, place
from cli.errors import UsageError
from cli.settings import BY_KEY, SETTINGS

_FLAG, _VARIABLE, _FILE, _DEFAULT = range(4)
CONFIG_VARIABLE: Final = "VARPULIS_CONFIG"
DEFAULT_FILE: Final = "varpulis.toml"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A value and where it came from; `origin` is `default` when nobody gave it."""

    value: Any
    origin: str

    @property
    def given(self) -> bool:
        """Somebody asked for this value."""
        return self.origin != "default"


class Settings:
    """All values of one invocation.

    Args:
        flags: what the command line gave, by key; `None` counts as not given.
        config: the file named on the command line.
        environ: the environment.
        lenient: what would be raised is kept in `faults`, and the default counts instead; for who examines
            settings rather than use them.

    Raises:
        UsageError: a value of the wrong type or out of range, an unknown key in the file, no such file.
    """

    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        *,
        config: str | None = None,
        environ: Mapping[str, str] | None = None,
        lenient: bool = False,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._environ, self._flags, self._lenient = environ, flags or {}, lenient
        self._in_context: dict[str, Resolved] | None = None
        self.faults: list[str] = []
        self.file: Path | None = None
        in_file: dict[str, Any] = {}
        with self._kept():
            self.file = _config_file(config, environ)
        if self.file:
            with self._kept():
                in_file = _read_file(self.file)
        self._resolved: dict[str, Resolved] = {}
        for setting in SETTINGS:
            self._resolved[setting.key] = Resolved(setting.default, "default")
            with self._kept():
                self._resolved[setting.key] = _resolve(setting.key, self._flags, environ, in_file, self.file)
        self.unknown_variables = sorted(_unknown_variables(environ))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            if not self._lenient:
                raise
            self.faults.append(str(error))

    def __getitem__(self, key: str) -> Any:
        return self.resolved(key).value

    def resolved(self, key: str) -> Resolved:
        """The value together with its origin.

        Raises:
            UsageError: the context that is meant is not there, or the file of contexts cannot be read.
        """
        if key not in IN_CONTEXTS:
            return self._resolved[key]
        if self._in_context is None:
            self._in_context = {}
            with self._kept():
                self._in_context = self._from_context()
        return self._in_context.get(key, self._resolved[key])

    def from_context(self, key: str) -> bool:
        """Whether the value is that of a context."""
        return self.resolved(key) is not self._resolved[key]

    @property
    def contexts_file(self) -> Path | None:
        """Where contexts are kept; None: nowhere, for a user without a home."""
        return place(self["client.contexts"], self._environ)

    @property
    def contexts(self) -> Contexts | None:
        """All contexts; None when there is no place for them.

        Raises:
            UsageError: their file cannot be read.
        """
        path = self.contexts_file
        return load(path) if path else None

    def _from_context(self) -> dict[str, Resolved]:
        """The values of the context that is meant, as far as nothing stronger is given."""
        asked = self._resolved["client.context"]
        if asked.given and not asked.value:  # `--context ''`: none, this once
            return {}
        found = self.contexts
        name = asked.value or (found.current if found else "")
        if not name:
            return {}
        if found is None:
            raise UsageError(f"no context {name!r}: there is no file of contexts; give VARPULIS_CONTEXTS")
        values = found.named(name)
        rank = self._rank(asked) if asked.value else _FILE
        if rank != _FLAG and self._rank(self._resolved["client.url"]) <= rank:
            return {}
        origin = f"context {name} ({found.path})"
        taken = {
            key: Resolved(value, origin)
            for key, value in values.items()
            if self._rank(self._resolved[key]) > rank
        }
        if self._rank(self._resolved["client.api_key"]) <= rank:  # a key that is stronger than its file
            taken.pop("client.api_key_file", None)
        return taken

    def _rank(self, found: Resolved) -> int:
        """How strong a source is, the strongest first."""
        if not found.given:
            return _DEFAULT
        if found.origin.startswith("--"):
            return _FLAG
        return _VARIABLE if found.origin in self._environ else _FILE

    def required(self, key: str) -> Any:
        """The value, which somebody must have given.

        Raises:
            UsageError: nobody did; names each way to give it.
        """
        value = self[key]
        if value is None or value == ():
            setting = BY_KEY[key]
            section, _, name = key.partition(".")
            raise UsageError(
                f"{key} is missing: give {setting.flag}, {setting.variable}, or {name} under [{section}]"
            )
        return value


def _resolve(
    key: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    in_file: Mapping[str, Any],
    file: Path | None,
) -> Resolved:
    setting = BY_KEY[key]
    candidates = (
        (flags.get(key), setting.flag),
        (environ.get(setting.variable) or None, setting.variable),
        (in_file.get(key), f"{file}: {key}"),
    )
    for given, origin in candidates:
        if given is not None:
            return Resolved(setting.read(given, origin), origin)
    return Resolved(setting.default, "default")


def _config_file(named: str | None, environ: Mapping[str, str]) -> Path | None:
    chosen = named or environ.get(CONFIG_VARIABLE)
    if not chosen:
        return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None
    if not Path(chosen).is_file():
        raise UsageError(f"no configuration file at {chosen}: correct --config or {CONFIG_VARIABLE}")
    return Path(chosen)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}: give a valid TOML file") from None
    values: dict[str, Any] = {}
    for section, table in document.items():
        for name, value in table.items() if isinstance(table, dict) else [("", table)]:
            key = f"{section}.{name}" if name else section
            if key not in BY_KEY:
                raise UsageError(f"{path}: unknown setting {key!r}: {_suggestion(key, BY_KEY)}")
            values[key] = value
    return values


def _unknown_variables(environ: Mapping[str, str]) -> Iterable[str]:
    known = {setting.variable for setting in SETTINGS} | {CONFIG_VARIABLE}
    return (name for name in environ if name.startswith("VARPULIS_") and name not in known)


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else "`varpulis config show` lists them all"
