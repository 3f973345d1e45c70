"""The replicated state machine of the simulation: a few registers, and a digest of all that was applied.

A command carries the number of its operation, so that each is unique and may be found once in the log. The
digest makes two histories that differ anywhere differ for ever. A command of kind "defect" makes `apply`
raise, with the state unchanged, as a defect of the product's own machine would.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec


class Command(msgspec.Struct, frozen=True, array_like=True):
    """One operation on a register. `expected` counts for "cas" only."""

    number: int
    kind: str
    key: str = ""
    value: int = 0
    expected: int | None = None
    padding: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_command = msgspec.msgpack.Decoder(Command)


class _State(msgspec.Struct, array_like=True):
    last: int
    digest: bytes
    registers: dict[str, int | None]


_state = msgspec.msgpack.Decoder(_State)


def encode(command: Command) -> bytes:
    """The bytes that enter the log."""
    return bytes(_encode(command))


def decode(data: bytes) -> Command:
    """The command in a log entry."""
    return _command.decode(data)


@dataclass
class Applications:
    """All that any node ever applied: index -> (command, digest of everything up to it)."""

    at: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    indexes: list[int] = field(default_factory=list)
    """The keys of `at`, which only grow."""
    commands: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    """Commands of which a client was told that they surely are not and never will be applied."""
    broken: str | None = None
    """The first contradiction. Kept, because the product withdraws when something is raised inside it."""

    def contradiction(self, rule: str) -> None:
        """Two machines, or a caller and a machine, contradict each other."""
        self.broken = self.broken or rule

    def last_before(self, index: int) -> int:
        """The last index at or below this one that a command was applied at; 0 if there is none."""
        at = bisect_right(self.indexes, index)
        return self.indexes[at - 1] if at else 0


class Store:
    """One node's copy of the registers."""

    def __init__(self, applications: Applications) -> None:
        self._applications = applications
        self.last, self.digest = 0, b""
        self.registers: dict[str, int | None] = {}

    def apply(self, index: int, command: bytes) -> bytes:
        """The register's value before the command, encoded."""
        known = self._applications
        if index <= self.last:
            known.contradiction(f"index {index} is applied after {self.last}")
        if index not in known.at:
            newest = known.indexes[-1] if known.indexes else 0
            if index < newest or self.last != newest:
                known.contradiction(
                    f"index {index} is applied to a state that ends at {self.last}, and not {newest}"
                )
            else:
                known.indexes.append(index)
                known.commands.add(command)
        self.last = index
        self.digest = hashlib.blake2b(self.digest + command, digest_size=8).digest()
        if known.at.setdefault(index, (command, self.digest)) != (command, self.digest):
            known.contradiction(f"two nodes applied different histories at index {index}")
        if command in known.refused:
            known.contradiction(
                f"the command at index {index} was refused for good, and is applied: {command[:40]!r}"
            )
        operation = decode(command)
        if operation.kind == "defect":
            raise RuntimeError("a defect of the state machine")
        before = self.registers.get(operation.key)
        if operation.kind == "write" or before == operation.expected:
            self.registers[operation.key] = operation.value
        return bytes(_encode(before))

    def snapshot(self) -> Iterable[bytes]:
        return [bytes(_encode(_State(self.last, self.digest, dict(self.registers))))]

    def restore(self, data: bytes) -> None:
        state = _state.decode(data)
        self.last, self.digest, self.registers = state.last, state.digest, state.registers
        if self.last and self._applications.at[self.last][1] != self.digest:
            self._applications.contradiction(f"a snapshot holds another history at index {self.last}")
