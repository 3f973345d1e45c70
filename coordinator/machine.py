"""The state machine as Raft sees it: bytes in, bytes out, and a snapshot in parts.

A command that cannot be read is answered, on every node alike, and changes nothing. Not so one of a later
format: a newer node would apply it, so this one stops rather than go on with another state. Who wants to know
of changes is called after each one; on a follower too, so that whoever waits there for a result of his own is
woken.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from coordinator.state.apply import apply
from coordinator.state.commands import FORMAT, decode_command, format_of
from coordinator.state.model import State
from coordinator.state.records import Event
from coordinator.state.results import AnyResult, Refused
from coordinator.state.snapshot import frames, read
from proto_schemas.errors import ErrorCode
from raft.errors import EntryTooNew

Watcher = Callable[[tuple[Event, ...]], None]
_log = logging.getLogger(__name__)


_encode: Final = msgspec.msgpack.Encoder().encode
_results: "Final[msgspec.msgpack.Decoder[Any]]" = msgspec.msgpack.Decoder(AnyResult)


def decode_result(data: bytes) -> AnyResult:
    """Read what `ClusterMachine.apply` answered."""
    result: AnyResult = _results.decode(data)
    return result


def _check_format(index: int, found: int) -> None:
    if found > FORMAT:
        raise EntryTooNew(index, found, FORMAT)


class ClusterMachine:
    """Holds the one `State` of this process; satisfies `raft.node.StateMachine`."""

    def __init__(self) -> None:
        self.state = State()
        self.unreadable = 0
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(events)` after every change; it must not raise or wait."""
        self._watchers.append(watcher)

    def apply(self, index: int, command: bytes) -> bytes:
        """Apply one committed command.

        Raises:
            EntryTooNew: it is of a later format than `FORMAT`.
        """
        try:
            decoded = decode_command(command)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _check_format(index, format_of(command))
            self.unreadable += 1
            _log.error("command %d cannot be read: %s", index, error)
            reason = f"command {index} cannot be read: {error}"
            return _encode(Refused(code=ErrorCode.BAD_REQUEST.value, error=reason))
        _check_format(index, decoded.format)
        result, events = apply(self.state, decoded)
        for watcher in self._watchers:
            watcher(events)
        return _encode(result)

    def snapshot(self) -> Iterable[bytes]:
        """The whole state as it is now, in parts; the same state gives the same bytes."""
        return frames(self.state)

    def restore(self, data: bytes) -> None:
        """Take over a snapshot.

        Raises:
            ValueError: it is damaged, or of a format this version does not know.
        """
        self.state = read(data)
        for watcher in self._watchers:
            watcher(())
