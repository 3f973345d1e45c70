"""Commands about groups and their updates."""

from msgspec.structs import replace

from coordinator.state.commands.base import Command, Reason
from proto_schemas.rest.groups import GroupSpec, Why


class CreateGroup(Command, frozen=True, kw_only=True):
    """A new group; its programs were checked before."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    why: Why = ""

    @property
    def about(self) -> str:
        return self.spec.name

    @property
    def words(self) -> "CreateGroup":
        return replace(self, consumes={}, connectors={})


class UpdateGroup(Command, frozen=True, kw_only=True):
    """Another version of a group; its programs were checked before. `if_version`: only of that one;
    `undivided`: pipelines whose state cannot be divided by their key, and why."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    if_version: int | None = None
    why: Why = ""
    undivided: dict[str, str] = {}

    @property
    def about(self) -> str:
        return self.spec.name

    @property
    def words(self) -> "UpdateGroup":
        return replace(self, consumes={}, connectors={}, undivided={})


class RollbackGroup(Command, frozen=True, kw_only=True):
    """A group is to be again what it was as version `to`; None: before the version that it has, or before the
    update that is under way. `if_version`: only if it has that one."""

    group: str
    to: int | None = None
    if_version: int | None = None
    why: Why = ""
    undivided: dict[str, str] = {}

    @property
    def about(self) -> str:
        return self.group

    @property
    def words(self) -> "RollbackGroup":
        return replace(self, undivided={})


class ScaleGroup(Command, frozen=True, kw_only=True):
    """A group is to be as it is, but for the `replicas` of one pipeline; otherwise as `UpdateGroup`."""

    group: str
    pipeline: str
    replicas: int
    if_version: int | None = None
    why: Why = ""
    undivided: dict[str, str] = {}

    @property
    def about(self) -> str:
        return f"{self.group}/{self.pipeline}"

    @property
    def words(self) -> "ScaleGroup":
        return replace(self, undivided={})


class DivisionCommand(Command, frozen=True, kw_only=True):
    """About the division that is under way in a group."""

    group: str
    division: str

    @property
    def about(self) -> str:
        return f"{self.group}, {self.division},"


class AdvanceDivision(DivisionCommand, frozen=True, kw_only=True):
    """The new copies are there, by instance; or, without, what stands in the way."""

    copies: dict[str, str] = {}
    reason: Reason = ""


class FinishDivision(DivisionCommand, frozen=True, kw_only=True):
    """The new copies hold all that the old ones handed over: they are the placements now."""


class FailDivision(DivisionCommand, frozen=True, kw_only=True):
    """The old copies stay. `new_line`: some new one may still listen, so they begin new lines under the first
    of the epochs that were meant for the new ones."""

    reason: Reason
    new_line: bool = False


class UpdateCommand(Command, frozen=True, kw_only=True):
    """About the update of a group to `version` that is under way."""

    group: str
    version: int

    @property
    def about(self) -> str:
        return f"{self.group}, version {self.version},"


class ExplainUpdate(UpdateCommand, frozen=True, kw_only=True):
    """What stands in the way of an update now; empty: nothing any more."""

    reason: Reason = ""


class FailUpdate(UpdateCommand, frozen=True, kw_only=True):
    """Give an update up, and roll it back."""

    reason: Reason


class EndUpdate(UpdateCommand, frozen=True, kw_only=True):
    """All that an update touched runs, for long enough."""


class DeleteGroup(Command, frozen=True, kw_only=True):
    """Tear a group down. It is gone once the last placement is let go."""

    group: str

    @property
    def about(self) -> str:
        return self.group
