"""The state machine as Raft sees it: bytes in, bytes out, and a snapshot with a format version.

`apply` never raises: a command that cannot be read (a newer node wrote it) is answered, on every node alike,
and changes nothing. Who wants to know of changes is called after each one; on a follower too, so that whoever
waits there for a result of his own is woken.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from coordinator.state.apply import apply
from coordinator.state.commands import decode_command
from coordinator.state.model import AnyResult, Event, Refused, State
from proto_schemas.errors import ErrorCode

FORMAT: Final = 1

Watcher = Callable[[tuple[Event, ...]], None]
_log = logging.getLogger(__name__)


class Snapshot(msgspec.Struct, frozen=True):
    """What lies on disk. `format` counts up with every change an older version cannot read."""

    format: int
    state: State


_encode: Final = msgspec.msgpack.Encoder().encode
_snapshots: "Final[msgspec.msgpack.Decoder[Snapshot]]" = msgspec.msgpack.Decoder(Snapshot)
_results: "Final[msgspec.msgpack.Decoder[Any]]" = msgspec.msgpack.Decoder(AnyResult)


def decode_result(data: bytes) -> AnyResult:
    """Read what `ClusterMachine.apply` answered."""
    result: AnyResult = _results.decode(data)
    return result


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
        """Apply one committed command."""
        try:
            decoded = decode_command(command)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.unreadable += 1
            _log.error("command %d cannot be read: %s; are all coordinators of one version?", index, error)
            reason = f"command {index} cannot be read: {error}"
            return _encode(Refused(code=ErrorCode.BAD_REQUEST.value, error=reason))
        result, events = apply(self.state, decoded)
        for watcher in self._watchers:
            watcher(events)
        return _encode(result)

    def snapshot(self) -> bytes:
        """The whole state; the same state gives the same bytes."""
        return _encode(Snapshot(FORMAT, self.state))

    def restore(self, data: bytes) -> None:
        """Take over a snapshot.

        Raises:
            ValueError: it is of another format, or none at all.
        """
        try:
            snapshot = _snapshots.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(
                f"the snapshot is not of format {FORMAT}: {error}; run the version that wrote it"
            ) from None
        if snapshot.format != FORMAT:
            raise ValueError(
                f"the snapshot has format {snapshot.format}, this version reads {FORMAT}: run the newer one"
            )
        self.state = snapshot.state
        for watcher in self._watchers:
            watcher(())
