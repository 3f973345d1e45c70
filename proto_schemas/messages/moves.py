"""A pipeline moves: its intake is held, its state taken from one copy and given to the next."""

from typing import Any

from proto_schemas.messages.base import Count, Fence, Message


class Hold(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.hold`: take events and keep them. A copy that runs stops processing; one that was
    deployed with `hold` joins its line.

    `relayed`: what other instances passed on is processed all the same, and what this one passed on is on
    the servers when it answers. `back`: a copy that handed over joins its lines again, beside those that took
    over and are to go; it keeps what comes until it resumes.
    """

    pipeline_id: str
    relayed: bool = False
    back: bool = False


class CheckpointRequest(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.checkpoint`. The answer is the checkpoint object itself, or a `CheckpointRef`.

    `handover`: first leave the line without losing what is on its way; what was held meanwhile is part of the
    checkpoint, and nothing is put out any more until `restore`.
    """

    pipeline_id: str
    handover: bool = False


class CheckpointRef(Message, frozen=True, kw_only=True):
    """Where a checkpoint lies that is larger than a NATS payload."""

    checkpoint_ref: str


class HeldEvent(Message, frozen=True, kw_only=True):
    """A message that a copy took and did not handle. `at`: its arrival, ms since 1970; `share`: of whose
    line, where instances share by key."""

    subject: str
    at: Count
    data: bytes
    share: Count | None = None


class HandedOver(Message, frozen=True, kw_only=True):
    """What a copy hands over: its checkpoint with what it held, or where that lies."""

    checkpoint_ref: str | None = None
    v: Count | None = None
    pipeline: str = ""
    source_sha256: str | None = None
    taken_at: int = 0
    positions: dict[str, Any] | None = None
    counters: dict[str, Any] | None = None
    vars: dict[str, Any] | None = None
    watermarks: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    held: list[HeldEvent] | None = None


class Restore(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.restore`: exactly one of `checkpoint` and `checkpoint_ref`.

    `resume`: then handle the events held there and here, in order, and go live; a copy that is live already
    answers and does nothing. Neither of the two may be given then: a copy that handed over goes on from its
    own. `only_held`: take the events of the checkpoint, and not its state: they came after those held here.
    `anew`: likewise, but they came before: another program goes on where its predecessor stopped. `queue`: a
    line to begin; `lines`: of its further shares. `restore_from`: with `resume` and no checkpoint, as
    `Deploy` has it.

    `piece`: the checkpoint is that of the copy with this id, of which this one takes over some keys when it
    resumes; it may be sent again, and those of others beside it. With `only_held`: that of a copy of a
    division which failed, of which this one takes back the events of its lines, for when it goes on.
    """

    pipeline_id: str
    checkpoint: dict[str, Any] | None = None
    checkpoint_ref: str | None = None
    resume: bool = False
    only_held: bool = False
    anew: bool = False
    queue: str | None = None
    restore_from: str | None = None
    lines: dict[str, str] | None = None
    piece: str | None = None


class Drain(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.drain`."""


class Drained(Message, frozen=True, kw_only=True):
    """Answer to `drain`: how many pipelines were brought to rest."""

    ok: bool
    pipelines: Count
