"""A container's place on this machine: an address and a file system of its own, without a container engine.

Each place has an address of its own on loopback, so every port stays what it is, and a directory of its own,
in which lies what is mounted, where it is mounted. What names the one or the other (settings, command lines,
files) is rewritten: `nats-0:4222` becomes `127.x.y.1:4222`, `/run/secrets` becomes `DIRECTORY/run/secrets`.
Nothing else is changed. In a network namespace (see `namespaces`) names and addresses stay what they are, and
only paths are rewritten.
"""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import environment
from transport.nats_binary import nats_server_binary

_CONFIGURATION = (".conf", ".yml")


@dataclass(frozen=True)
class Place:
    """One container's.

    Attributes:
        root: its directory.
        address: its own on loopback; empty: `0.0.0.0` and `127.0.0.1` are its own there.
        names: what others are called, and their addresses; none: they are known there.
        paths: those of its file system that mean something; what lies below them is in `root`.
        enter: the command by which another one is run there.
    """

    root: Path
    address: str
    names: Mapping[str, str]
    paths: Sequence[str]
    enter: Sequence[str] = ()

    def mount(self, target: str, source: Path | None) -> None:
        """Put a copy of a file where it is mounted, as it has to be here; None: an empty directory."""
        place = self.root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            place.mkdir(exist_ok=True)
        elif source.suffix in _CONFIGURATION and source.is_file():
            place.write_text(self.here(source.read_text()))
            place.chmod(0o440)
        elif source.is_file():
            shutil.copy(source, place)

    def here(self, text: str) -> str:
        """A setting, word or file, with addresses and paths as they are on this machine."""
        for name, address in self.names.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}:(?=\d)", f"{address}:", text)
        if self.address:
            text = re.sub(r"(?<![\d.])(0\.0\.0\.0|127\.0\.0\.1)(?![\d.])", self.address, text)
        for path in self.paths:
            text = re.sub(rf"(?<![\w./-]){path}(?=[/\s\"',]|$)", f"{self.root}{path}", text)
        return text

    def command(self, words: Sequence[str]) -> list[str]:
        """A command line whose first word is a program of the image."""
        return [*self.enter, *_program(words[0]), *(self.here(word) for word in words[1:])]

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """What a process here finds in its environment."""
        return {name: self.here(value) for name, value in given.items()}

    def run(self, words: Sequence[str], given: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a command here, to its end."""
        return subprocess.run(
            self.command(words),
            env=environment(self.environment(given)),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def loopback(names: Sequence[str]) -> dict[str, str]:
    """An address for each name in a network of loopback that this run has to itself, most likely."""
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
    return {name: f"{network}.{number}" for number, name in enumerate(names, start=1)}


def _program(name: str) -> list[str]:
    if name == "varpulis":
        return [sys.executable, "-m", "cli.main"]
    if name == "python":
        return [sys.executable]
    if name == "nats-server":
        return [str(nats_server_binary())]
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return [found]
