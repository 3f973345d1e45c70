"""Machines made of network namespaces: each with an address, a cable to a switch, and names for the others.

A namespace lives as long as a process in it. So each one is held by a `cat` that waits for more on its
standard input: whatever becomes of us, that ends, `cat` with it, and with the namespaces the interfaces in
them. The switch, a bridge, is in a namespace of its own. Nothing has a name outside of it, no interface is
in the namespace that we run in, and nothing leads out of the network: two runs side by side have the same
addresses.

What runs on a machine finds itself on `127.0.0.1`, all of its interfaces on `0.0.0.0`, and the others by
their names, since each has a mount namespace too, with an `/etc/hosts` of its own.

A cable that is pulled takes the carrier from both ends: nobody is told anything, no RST, no FIN, and what
is sent is lost. Connections stay as they are, until somebody finds that they are dead.

Root makes the namespaces as they are; anybody else in a user namespace, where the kernel lets them.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PROGRAMS: Final = ("ip", "nsenter", "setpriv", "unshare")
_SWITCH: Final = "switch"
_PREFIX: Final = "10.77.0"
_UP_WITHIN: Final = 10.0


class Refused(Exception):
    """No network can be made here; the text says why."""


class Network:
    """Machines on one switch. Enter it to have them.

    Args:
        directory: for their files of names.
        names: of the machines, at most 15 bytes each, as interfaces are called after them.

    Raises:
        Refused: the kernel does not let us, or a program is missing.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._hosts = directory / "hosts"
        self._names = list(names)
        self._held: dict[str, subprocess.Popen[bytes]] = {}

    def enter(self, name: str) -> list[str]:
        """The command by which another one is run on this machine; it ends when we do."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        into = ["nsenter", "--target", str(self._held[name].pid), *user, "--net", "--mount"]
        return [*into, "setpriv", "--pdeathsig", "KILL"]

    def pull(self, name: str) -> None:
        """Pull the cable of a machine."""
        self._do(_SWITCH, f"ip link set dev {name} down")

    def plug(self, name: str) -> None:
        """Put it back."""
        self._do(_SWITCH, f"ip link set dev {name} up")

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
            raise Refused(f"not installed: {', '.join(missing)}")
        addresses = {name: f"{_PREFIX}.{number}" for number, name in enumerate(self._names, start=1)}
        lines = [f"{address} {name}\n" for name, address in addresses.items()]
        self._hosts.write_text("".join(["127.0.0.1 localhost\n", *lines]))
        self._hold(_SWITCH, [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"])
        self._do(_SWITCH, "ip link add name bridge type bridge", "ip link set dev bridge up")
        for name, address in addresses.items():
            self._hold(name, self.enter(_SWITCH))
            self._do(
                _SWITCH,
                f"ip link add name {name} type veth peer name eth0 netns {self._held[name].pid}",
                f"ip link set dev {name} master bridge up",
            )
            self._do(
                name,
                f"mount --bind {self._hosts} /etc/hosts",
                "ip link set dev lo up",
                f"ip address add {address}/24 dev eth0",
                "ip link set dev eth0 up",
            )

    def _hold(self, name: str, before: Sequence[str]) -> None:
        """A process in namespaces of its own, once it is there."""
        held = subprocess.Popen(
            [*before, "unshare", "--net", "--mount", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._held[name] = held
        assert held.stdin is not None and held.stdout is not None and held.stderr is not None
        try:
            held.stdin.write(b"there\n")
            held.stdin.flush()
        except BrokenPipeError:
            pass  # it says why
        if held.stdout.readline() != b"there\n":
            raise Refused(held.stderr.read().decode(errors="replace").strip())

    def _do(self, name: str, *commands: str) -> None:
        for command in commands:
            done = subprocess.run(
                [*self.enter(name), *command.split()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_UP_WITHIN,
                check=False,
            )
            if done.returncode:
                raise Refused(f"`{command}`: {done.stderr.strip()}")

    def _remove(self) -> None:
        """End those that hold; what still runs in a namespace keeps it."""
        while self._held:
            _, held = self._held.popitem()
            for stream in (held.stdin, held.stdout, held.stderr):
                if stream is not None:
                    stream.close()
            held.kill()
            held.wait()


def why_not() -> str:
    """Why no network can be made here, found out by making one; empty: it can."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with Network(Path(directory), ["one", "other"]) as network:
                network.pull("one")
        except Refused as error:
            return str(error)
    return ""
