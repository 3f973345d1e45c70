"""Which value counts: flags before environment before the TOML file before defaults, each with its
origin.

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

from cli.errors import UsageError
from cli.settings import BY_KEY, SETTINGS

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
        self.faults: list[str] = []
        self.file: Path | None = None
        in_file: dict[str, Any] = {}
        with self._kept(lenient):
            self.file = _config_file(config, environ)
        if self.file:
            with self._kept(lenient):
                in_file = _read_file(self.file)
        self._resolved: dict[str, Resolved] = {}
        for setting in SETTINGS:
            self._resolved[setting.key] = Resolved(setting.default, "default")
            with self._kept(lenient):
                self._resolved[setting.key] = _resolve(setting.key, flags or {}, environ, in_file, self.file)
        self.unknown_variables = sorted(_unknown_variables(environ))

    @contextmanager
    def _kept(self, lenient: bool) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            if not lenient:
                raise
            self.faults.append(str(error))

    def __getitem__(self, key: str) -> Any:
        return self._resolved[key].value

    def resolved(self, key: str) -> Resolved:
        """The value together with its origin."""
        return self._resolved[key]

    def required(self, key: str) -> Any:
        """The value, which somebody must have given.

        Raises:
            UsageError: nobody did; names each way to give it.
        """
        value = self._resolved[key].value
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
