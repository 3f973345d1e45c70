"""A unit file of systemd as far as ours go: sections of `Key=value`, keys that repeat, specifiers."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.credentials import DEPLOY

UNITS = DEPLOY / "systemd"
_LINE = re.compile(r"(?P<key>[A-Za-z]+)=(?P<value>.*)")


@dataclass(frozen=True)
class Unit:
    """`values`: what each key was given, in its order."""

    values: dict[str, list[str]]

    def one(self, key: str) -> str:
        (value,) = self.values[key]
        return value

    def command(self, specifiers: Mapping[str, str]) -> list[str]:
        """The words of `ExecStart`."""
        return shlex.split(expanded(self.one("ExecStart"), specifiers))

    def environment(self, specifiers: Mapping[str, str]) -> dict[str, str]:
        """What `Environment` sets."""
        words = [word for line in self.values["Environment"] for word in shlex.split(line)]
        pairs = (word.partition("=") for word in words)
        return {name: expanded(value, specifiers) for name, _, value in pairs}

    def credentials(self, specifiers: Mapping[str, str]) -> dict[str, str]:
        """Name of a credential and the file it comes from."""
        pairs = (expanded(line, specifiers).partition(":") for line in self.values["LoadCredential"])
        return {name: path for name, _, path in pairs}


def read(path: Path) -> Unit:
    values: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if not line or line.startswith(("#", "[")):
            continue
        match = _LINE.fullmatch(line)
        assert match is not None, f"{path.name}: {line}"
        values.setdefault(match["key"], []).append(match["value"])
    return Unit(values)


def expanded(text: str, specifiers: Mapping[str, str]) -> str:
    """With `%i` and the like put in; one that is not known is an error."""
    return re.sub(r"%(.)", lambda match: specifiers[match[1]], text)
