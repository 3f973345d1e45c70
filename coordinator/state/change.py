"""What the handlers of `apply` work with: the state, the command, and the three ways to speak.

A handler first checks everything and then changes; so `refuse` leaves the state as it was.
"""

from typing import Generic, NoReturn, TypeVar

from coordinator.state.commands import Command
from coordinator.state.limits import MAX_AUDIT, MAX_STRAYS
from coordinator.state.model import State
from coordinator.state.records import Event, Placement, Stray
from coordinator.state.trail import number
from proto_schemas.errors import ErrorCode

C_co = TypeVar("C_co", bound=Command, covariant=True)


class Refusal(Exception):
    """Ends a handler before it has changed anything."""

    def __init__(self, code: str, error: str, retryable: bool) -> None:
        super().__init__(error)
        self.code, self.error, self.retryable = code, error, retryable


def refuse(code: ErrorCode, error: str, *, retryable: bool = False) -> NoReturn:
    """Answer `Refused`; `error` names cause and remedy."""
    raise Refusal(code.value, error, retryable)


class Change(Generic[C_co]):
    """One command being applied."""

    __slots__ = ("command", "events", "state")

    def __init__(self, state: State, command: C_co) -> None:
        self.state = state
        self.command = command
        self.events: list[Event] = []

    def tell(self, what: str, about: str, why: str = "") -> None:
        """Put a decision into the trail and hand it to the shell."""
        event = Event(
            seq=number(self.state.audit, self.command.at),
            at=self.command.at,
            by=self.command.by,
            what=what,
            about=about,
            why=why,
        )
        self.events.append(event)
        self.state.audit.append(event)
        if len(self.state.audit) > MAX_AUDIT:
            del self.state.audit[: len(self.state.audit) - MAX_AUDIT]

    def write(self, group: str, pipeline: str, placement: Placement) -> None:
        """Replace a placement."""
        self.state.write_placement(group, pipeline, placement)

    def drop(self, group: str, pipeline: str) -> None:
        """Remove a placement, and with its last one a group that is being torn down."""
        self.state.drop_placement(group, pipeline)
        if not self.state.placements[group] and self.state.groups[group].deleting:
            self.state.drop_group(group)
            self.tell("group_removed", group)

    def leave_stray(self, group: str, pipeline: str, placement: Placement) -> None:
        """Write down that the copy of a placement may still run on its worker."""
        if placement.worker_id is None or placement.pipeline_id is None:
            return
        self.state.write_stray(
            Stray(
                worker_id=placement.worker_id,
                pipeline_id=placement.pipeline_id,
                group=group,
                pipeline=pipeline,
                epoch=placement.epoch,
            )
        )
        if len(self.state.strays) > MAX_STRAYS:
            oldest = next(iter(self.state.strays))
            self.state.drop_stray(oldest)
            self.tell("stray_forgotten", oldest, "too many strays")
