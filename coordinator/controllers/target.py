"""One placement under one epoch, as the controllers name it; and what is told when its worker did not do as
it was asked.
"""

from dataclasses import dataclass
from typing import Final

from coordinator.controllers.actions import Key
from coordinator.state.commands import MAX_REASON
from coordinator.state.model import State
from proto_schemas.errors import WireError
from transport.errors import ErrorKind, NatsTransportError

UNREACHED: Final = frozenset({ErrorKind.DISCONNECTED, ErrorKind.NO_RESPONDERS, ErrorKind.UNAUTHORIZED})
"""Failures in which no worker was reached, as far as can be known. A copy that was made all the same is
listed by the next heartbeat, and ended by the answer to it."""
UNREACHED_UNTIL_DISPLACED: Final = 7
"""So many of them in a row, some 3 to 6 s with the pauses between them: a new leader learns a worker's key
within one heartbeat, and whose heartbeat is late is found unhealthy in that time."""

BY: Final = "placement"
"""Who proposed it, in the audit trail."""
DOUBT: Final = "a copy of unknown id may run there, restart that worker to end it"


@dataclass(frozen=True, slots=True)
class Target:
    """One placement under one epoch. `life` is the `created_at` of its group: a group that is created again
    under the name does not inherit the pauses of the first."""

    group: str
    pipeline: str
    epoch: int
    life: int = 0

    @classmethod
    def of(cls, state: State, group: str, pipeline: str, epoch: int) -> "Target":
        """In the present life of the group; 0 when it has none."""
        present = state.groups.get(group)
        return cls(group, pipeline, epoch, present.created_at if present is not None else 0)

    @property
    def key(self) -> Key:
        """What `Actions` knows it by: one action per pipeline and life, whatever its epoch."""
        return ("pipeline", self.group, self.pipeline, str(self.life))

    @property
    def request_id(self) -> str:
        """The same for each try to deploy this epoch."""
        return f"{self.group}.{self.pipeline}.{self.epoch}"


def why(worker_id: str, error: WireError | NatsTransportError) -> str:
    """A reason people can act on; bounded, because it is replicated."""
    if isinstance(error, NatsTransportError):
        if error.kind is ErrorKind.NO_RESPONDERS:
            return f"worker {worker_id} does not listen: is it running?"
        if error.kind is ErrorKind.TIMEOUT:
            return f"worker {worker_id} did not answer in time"
    return f"worker {worker_id}: {error}"[:MAX_REASON]
