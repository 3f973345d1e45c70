"""A state machine that remembers everything it applied."""

import json
from collections.abc import Iterable


class Recorder:
    """Keeps (index, command) pairs; a command ``raise`` makes it raise."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.restored = 0

    def apply(self, index: int, command: bytes) -> bytes:
        if command == b"raise":
            raise RuntimeError("a defect")
        self.applied.append((index, command))
        return b"result of " + command

    def snapshot(self) -> Iterable[bytes]:
        return [json.dumps([(index, command.decode()) for index, command in self.applied]).encode()]

    def restore(self, data: bytes) -> None:
        self.restored += 1
        self.applied = [(index, command.encode()) for index, command in json.loads(data)]

    @property
    def commands(self) -> list[bytes]:
        return [command for _, command in self.applied]
