"""Commands about single placements, strays, and the counter of epochs."""

from coordinator.state.commands.base import Command, Reason


class PlacementCommand(Command, frozen=True, kw_only=True):
    """About one placement, as it stood under `epoch`."""

    group: str
    pipeline: str
    epoch: int

    @property
    def about(self) -> str:
        return f"{self.group}/{self.pipeline}@{self.epoch}"


class Place(PlacementCommand, frozen=True, kw_only=True):
    """The intent to deploy on a worker; the answer holds the next epoch. `reason`: why on that one."""

    worker_id: str
    reason: Reason = ""


class ReportRunning(PlacementCommand, frozen=True, kw_only=True):
    """The copy of this epoch runs: the deploy was answered, or a heartbeat tells of it. `reason`: from which
    state it began, where that is not its predecessor's last."""

    worker_id: str
    session: int
    pipeline_id: str
    reason: Reason = ""


class ReportFailed(PlacementCommand, frozen=True, kw_only=True):
    """The worker will not run it, and the same request would fail again."""

    reason: Reason


class Displace(PlacementCommand, frozen=True, kw_only=True):
    """Take it from its worker; it is to be placed again."""

    reason: Reason


class Explain(PlacementCommand, frozen=True, kw_only=True):
    """Why it does not run yet."""

    reason: Reason


class LetGo(PlacementCommand, frozen=True, kw_only=True):
    """A placement being removed is gone; unless `confirmed` by the worker its copy is remembered as a
    stray. `reason`: why it is let go although the worker would not end the copy."""

    confirmed: bool
    reason: Reason = ""


class ForgetStray(Command, frozen=True, kw_only=True):
    """A stray is gone, or given up for a `reason`."""

    worker_id: str
    pipeline_id: str
    reason: Reason = ""

    @property
    def about(self) -> str:
        return f"{self.worker_id}/{self.pipeline_id}"


class RaiseEpochs(Command, frozen=True, kw_only=True):
    """A worker has seen this epoch: the next one we give is above it."""

    epoch: int

    @property
    def about(self) -> str:
        return f"@{self.epoch}"
