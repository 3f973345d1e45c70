"""Commands about groups and their updates."""

from msgspec.structs import replace

from coordinator.state.commands.base import Command, Reason
from proto_schemas.rest import GroupSpec, Why


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
    """Another version of a group; its programs were checked before. `if_version`: only of that one."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    if_version: int | None = None
    why: Why = ""

    @property
    def about(self) -> str:
        return self.spec.name

    @property
    def words(self) -> "UpdateGroup":
        return replace(self, consumes={}, connectors={})


class RollbackGroup(Command, frozen=True, kw_only=True):
    """A group is to be again what it was as version `to`; None: before the version that it has, or before the
    update that is under way. `if_version`: only if it has that one."""

    group: str
    to: int | None = None
    if_version: int | None = None
    why: Why = ""

    @property
    def about(self) -> str:
        return self.group


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
