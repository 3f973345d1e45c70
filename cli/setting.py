"""What a configurable value is: its names, its type, its bounds, and how it is read from text or TOML.

Every error names where the value came from, what it was (unless it is a secret) and what would be right.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Setting:
    """One configurable value.

    Attributes:
        key: TOML section and key, joined by a dot.
        kind: `text`, `integer`, `number`, `list` (comma-separated, or a TOML list) or `switch`.
        default: the value when nobody says anything; `None`: decided at run time, as `help` tells.
        help: what it does, with its unit.
        flag: its option on the command line, or "" when it has none.
        env: its environment variable, when that is not the one made from the key.
        low, high: bounds of a number, inclusive.
        secret: never shown.
    """

    key: str
    kind: str
    default: Any
    help: str
    flag: str = ""
    env: str = ""
    low: float | None = None
    high: float | None = None
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.env or "VARPULIS_" + self.key.upper().replace(".", "_")

    def read(self, given: Any, origin: str) -> Any:
        """The value of `given` (text, or typed as TOML has it).

        Raises:
            UsageError: wrong type or out of range; names the origin and what would be right.
        """
        try:
            value = _READERS[self.kind](given)
        except (TypeError, ValueError):
            raise UsageError(f"{origin} = {self.shown(given)!r} is not {self.expected}") from None
        too_low = self.low is not None and value < self.low
        if too_low or (self.high is not None and value > self.high):
            raise UsageError(f"{origin} = {value} is out of range: give {self.expected}")
        return value

    @property
    def expected(self) -> str:
        """What a right value is, in words."""
        words = _WORDS[self.kind]
        return f"{words} from {self.low:g} to {self.high:g}" if self.low is not None else words

    @property
    def in_words(self) -> str:
        """The default as one would write it."""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return str(self.default).lower() if isinstance(self.default, bool) else f"{self.default}"

    @property
    def flags(self) -> tuple[str, ...]:
        """Its options on the command line: none, one, or for a switch the one that says no as well."""
        if not self.flag:
            return ()
        return (self.flag, f"--no-{self.flag[2:]}") if self.kind == "switch" else (self.flag,)

    def shown(self, value: Any) -> Any:
        """The value as it may be shown to anybody: no secret, and no user or password inside a URL."""
        if self.secret:
            return "***" if value else value
        if isinstance(value, list | tuple):
            return [self.shown(item) for item in value]
        return _USERINFO.sub("//***@", value) if isinstance(value, str) else value


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


def _integer(given: Any) -> int:
    if isinstance(given, bool | float):
        raise TypeError
    return int(given)


def _number(given: Any) -> float:
    if isinstance(given, bool):
        raise TypeError
    return float(given)


def _list(given: Any) -> tuple[str, ...]:
    items = [_text(item) for item in given] if isinstance(given, list | tuple) else [_text(given)]
    return tuple(part.strip() for item in items for part in item.split(",") if part.strip())


def _switch(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    word = _text(given).lower()
    if word not in _SWITCH:
        raise ValueError
    return _SWITCH[word]


_USERINFO: Final = re.compile(r"//[^/@]*@")
_SWITCH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "list": _list,
    "switch": _switch,
}
_WORDS: Final = {
    "text": "text",
    "integer": "a whole number",
    "number": "a number",
    "list": "a comma-separated list",
    "switch": "true or false",
}
