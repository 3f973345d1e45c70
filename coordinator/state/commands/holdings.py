"""Commands about what the cluster keeps beside groups: connectors, API keys, answers, a copy to restore."""

from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from coordinator.state.commands.base import Command
from coordinator.state.records import KeyRole

MAX_NOTE: Final = 16_000


class SaveConnector(Command, frozen=True, kw_only=True):
    """Register a connector (`new`), or change one; checked before.

    `sealed` names the params whose values are secrets, sealed: anew by each node that a request is sent
    through, so they are not among its words. `kept` names secrets that stay as they are.
    """

    name: str
    connector_type: str
    params: dict[str, Any]
    description: str = ""
    new: bool
    sealed: list[str] = []
    kept: list[str] = []

    @property
    def about(self) -> str:
        return self.name

    @property
    def words(self) -> "SaveConnector":
        open_params = {key: value for key, value in self.params.items() if key not in self.sealed}
        return replace(self, params=open_params)


class ResealConnector(Command, frozen=True, kw_only=True):
    """The same params, sealed under another key; of this version and no other."""

    name: str
    version: int
    params: dict[str, Any]

    @property
    def about(self) -> str:
        return f"{self.name}@{self.version}"


class DeleteConnector(Command, frozen=True, kw_only=True):
    """Forget a registered connector that no program names."""

    name: str

    @property
    def about(self) -> str:
        return self.name


class CreateKey(Command, frozen=True, kw_only=True):
    """An API key is made; its secret stays with who made it. `expires_at` and `overlap_ms` in ms, 0: never,
    and at once. `from_file`: a coordinator was started with it; one that is known already is none of its
    business. `worker`: as whom it may speak.
    """

    key_id: str
    role: KeyRole
    salt: bytes
    digest: bytes
    note: str = ""
    expires_at: int = 0
    replaces: str = ""
    overlap_ms: int = 0
    from_file: bool = False
    worker: str = ""

    @property
    def about(self) -> str:
        return self.key_id

    def __repr__(self) -> str:
        return f"CreateKey({self.key_id!r}, {self.role.value})"


class RevokeKey(Command, frozen=True, kw_only=True):
    """An API key counts no longer; with `force` also the last one of an admin."""

    key_id: str
    force: bool = False

    @property
    def about(self) -> str:
        return self.key_id


class Note(Command, frozen=True, kw_only=True):
    """Remember, under the request id, a choice that was made or an answer that was given; the first one is
    answered. `asked`: the request it belongs to."""

    asked: str
    text: Annotated[str, msgspec.Meta(max_length=MAX_NOTE)] = ""

    @property
    def about(self) -> str:
        return self.asked

    @property
    def words(self) -> "Note":
        return replace(self, text="")


class BeginRestore(Command, frozen=True, kw_only=True):
    """A copy will come in parts; `key` is the request id that its commit will have. See `restore`."""

    upload: str
    size: int
    crc: int
    cluster: str
    taken_at: int
    last_index: int
    key: str

    @property
    def about(self) -> str:
        return self.upload


class PutPart(Command, frozen=True, kw_only=True):
    """One part of the copy, by number from 0."""

    upload: str
    number: int
    data: bytes

    @property
    def about(self) -> str:
        return f"{self.upload}#{self.number}"


class CommitRestore(Command, frozen=True, kw_only=True):
    """All parts are there: the state becomes that of the copy."""

    upload: str

    @property
    def about(self) -> str:
        return self.upload
