"""What a store of checkpoints must do, what lies in it, and how it fails.

A store holds, for each pipeline, **chunks** (bytes under the name of a checkpoint) and one **manifest**:
who may write, and which checkpoints are whole. It need not understand either. What it must get right is the
manifest: `publish` puts the new one in place of the one that was read, all of it, and only if nobody was
faster. Everything else (order, checksums, epochs, what is kept) is `worker.store.archive`.

A pipeline's place is `group/pipeline`, both checked, so that a name leads nowhere else; a pipeline that a
coordinator without groups deployed has the place `~/pipeline_id`.
"""

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import msgspec

from proto_schemas.codec import encode
from proto_schemas.messages.base import Count

VERSION: Final = 1
NO_GROUP: Final = "~"
MAX_CHUNKS: Final = 4096

_PART: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REF: Final = re.compile(
    r"(?P<group>~|[A-Za-z0-9_-]{1,128})\.(?P<pipeline>[A-Za-z0-9_-]{1,128})(?:\.(?P<name>\d{1,19}-\d{1,19}))?"
)


class StoreDown(Exception):
    """The store did not do it, or not in time; it may later. The text says why and what to do."""


class Conflict(Exception):
    """Somebody else published in between."""


class Fenced(Exception):
    """A newer copy of the pipeline owns its checkpoints: this one must not write any more."""

    def __init__(self, own: int, seen: int) -> None:
        super().__init__(f"epoch {own} is over: the checkpoints belong to epoch {seen}")
        self.own, self.seen = own, seen


class Damaged(Exception):
    """What was read is not what was written."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the checkpoints of one pipeline lie.

    Raises:
        ValueError: a name that could lead elsewhere.
    """

    group: str
    pipeline: str

    def __post_init__(self) -> None:
        groups = () if self.group == NO_GROUP else (self.group,)
        for part in (*groups, self.pipeline):
            if _PART.fullmatch(part) is None:
                raise ValueError(
                    f"{part[:80]!r} names no place for checkpoints: use 1 to 128 letters, digits, '_' or '-'"
                )

    def __str__(self) -> str:
        return f"{self.group}/{self.pipeline}"


@dataclass(frozen=True, slots=True)
class Owner:
    """A copy that writes: its place, the epoch of its placement, and its life there. That grows when a group
    is made again under the name, and when instances become more or fewer: what lies there then is of another
    group, or of other keys, and not to be gone on from."""

    place: Place
    epoch: int = 0
    life: int = 0


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Bytes, and the first 16 bytes of their SHA-256 in hex."""

    size: Count
    digest: str


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One whole checkpoint. `seq` grows from one to the next, and is never given twice (it is the time it was
    taken at, or just above the one before); `size`: bytes of its chunks; `sha256`: of all of them, in hex."""

    epoch: Count
    seq: Count
    taken_at: int
    source_sha256: str
    size: Count
    sha256: str
    chunks: Annotated[list[Chunk], msgspec.Meta(max_length=MAX_CHUNKS)]

    @property
    def name(self) -> str:
        """What its chunks are found by."""
        return f"{self.epoch}-{self.seq}"


def epoch_of(name: str) -> int:
    """The epoch in the name of a checkpoint; beyond all epochs for what is no such name."""
    epoch, _, seq = name.partition("-")
    return int(epoch) if epoch.isdecimal() and seq.isdecimal() else 2**63


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a place, and what lies there, newest first. `left_out`: inputs, by their sequences in the
    stream, on which a copy was cut off; they are not handled again."""

    v: Count = VERSION
    epoch: Count = 0
    life: Count = 0
    checkpoints: list[Stored] = []
    left_out: list[Count] = []


def encode_manifest(manifest: Manifest) -> bytes:
    """As it lies in a store."""
    return encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in `data`.

    Raises:
        Damaged: it is none, or of a newer version.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"the manifest cannot be read: {error}") from None
    if manifest.v > VERSION:
        raise Damaged(f"the manifest has version {manifest.v}, this worker reads up to {VERSION}")
    return manifest


@dataclass(frozen=True, slots=True)
class Ref:
    """What a `checkpoint_ref` says: a place, and the name of one checkpoint there; None: the newest. A
    pipeline id alone is the place of a copy without a group."""

    place: Place
    name: str | None = None

    @classmethod
    def read(cls, text: str) -> "Ref":
        """Raises ValueError for what is none."""
        if _PART.fullmatch(text) is not None:
            return cls(Place(NO_GROUP, text))
        found = _REF.fullmatch(text)
        if found is None:
            raise ValueError(f"checkpoint_ref {text[:80]!r} is none: give one that a checkpoint answered")
        return cls(Place(found["group"], found["pipeline"]), found["name"])

    def __str__(self) -> str:
        name = f".{self.name}" if self.name is not None else ""
        return f"{self.place.group}.{self.place.pipeline}{name}"


class Store(Protocol):
    """Each call raises `StoreDown` when it was not done within its own deadline."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    async def manifest(self, place: Place) -> tuple[Manifest | None, int]:
        """The manifest and its revision, to publish the next one over; (None, revision) when there is none
        that can be read."""
        ...

    async def publish(self, place: Place, manifest: Manifest, revision: int) -> int:
        """Put a manifest in place of revision `revision`; its own revision.

        Raises:
            Conflict: that is not the present one any more; nothing was changed.
        """
        ...

    async def put(self, place: Place, name: str, number: int, data: bytes) -> None:
        """Keep the `number`-th chunk (from 0) of a checkpoint; it lies safely when this returns."""
        ...

    def read(self, place: Place, stored: Stored) -> AsyncIterator[bytes]:
        """Its chunks in order, as they lie there.

        Raises:
            Damaged: one is missing.
        """
        ...

    async def tidy(self, place: Place, kept: Collection[str], epoch: int) -> None:
        """Remove the chunks of every checkpoint of `epoch` or an older one whose name is not in `kept`."""
        ...

    async def forget(self, place: Place) -> None:
        """Forget everything about a place."""
        ...
