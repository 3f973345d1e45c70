"""Commands about migrations and drains."""

from coordinator.state.commands.base import Command, Reason
from coordinator.state.commands.placements import PlacementCommand
from coordinator.state.records import Cause, DrainPhase, MovePhase


class StartMigration(PlacementCommand, frozen=True, kw_only=True):
    """Move a running pipeline: a slot on the target and the next epoch are its own from here on.

    What people ask for has no epoch (0: the present one) and perhaps no target (empty: as the strategy
    says), so that the same request is the same command whenever it is sent.
    """

    to_worker: str = ""
    cause: Cause


class MigrationCommand(Command, frozen=True, kw_only=True):
    """About one migration that is under way."""

    migration_id: str

    @property
    def about(self) -> str:
        return self.migration_id


class AdvanceMigration(MigrationCommand, frozen=True, kw_only=True):
    """The step to `phase` is done, or, with the same phase, a `reason` why it takes long. `pipeline_id`: of
    the copy on the target, once it is known. `lost`: the target goes live without what the source had.
    """

    phase: MovePhase
    pipeline_id: str | None = None
    reason: Reason = ""
    lost: bool = False


class FinishMigration(MigrationCommand, frozen=True, kw_only=True):
    """The target is live: it is the placement now. `reason`: what it begins without. `new_line`: the source
    may still listen, so the target began a new line under its epoch.
    """

    reason: Reason = ""
    new_line: bool = False


class FailMigration(MigrationCommand, frozen=True, kw_only=True):
    """The pipeline stays where it was, and is live there, or to be placed again. `new_line`: the target may
    still listen, so the source was told to begin a new line under the epoch of the migration. `refused`: the
    target will never run what it was sent."""

    reason: Reason
    new_line: bool = False
    refused: bool = False


class CancelMigration(FailMigration, frozen=True, kw_only=True):
    """The same, before the source had handed anything over."""


class StartDrain(Command, frozen=True, kw_only=True):
    """Empty a worker. `timeout_ms`: when to give up; None: never."""

    worker_id: str
    cause: Cause
    timeout_ms: int | None = None

    @property
    def about(self) -> str:
        return self.worker_id


class ExplainDrain(Command, frozen=True, kw_only=True):
    """What stands in the way of a drain now; empty: nothing any more."""

    drain_id: str
    reason: Reason = ""

    @property
    def about(self) -> str:
        return self.drain_id


class EndDrain(Command, frozen=True, kw_only=True):
    """A drain is over: the worker is empty, it took too long, or somebody cancelled it."""

    drain_id: str
    phase: DrainPhase
    reason: Reason = ""

    @property
    def about(self) -> str:
        return self.drain_id
