"""How instances that share by key take over from others of another number, or take back what those had taken.

When `n` instances become `m`, each new copy takes from each old one the windows of the keys that it owns now,
and, of the events that were held, those in the lines of the shares that it takes. The pieces come one by one,
each as often as it is sent; when the copy resumes they are put together:

- the windows of all pieces, which have no key in common;
- of each share first what the old copy held and this one held of its line, in the order in which it came
  (`worker.held`). Events of two shares have no key in common, so their order does not matter.
"""

from msgspec.structs import replace

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.moves import HeldEvent
from vpl.division import Undivided, joined, part
from worker.checkpoints import VERSION, Checkpoint
from worker.pipeline import Pipeline, State


def take_piece(pipeline: Pipeline, copy_id: str, checkpoint: Checkpoint) -> None:
    """Keep what becomes this copy's of the checkpoint of another one, until it resumes.

    Raises:
        WireError: `conflict`: the copy runs, it is of another program, or that has no such pieces.
    """
    intake = pipeline.intake
    if pipeline.feed is not None:
        raise _unfit(
            f"pipeline {pipeline.id} reads a stream, and takes over no pieces: update the coordinators"
        )
    if pipeline.state is State.RUNNING:
        return  # it has put them together
    if pipeline.state is not State.HELD or intake is None or intake.key is None:
        raise _unfit(f"pipeline {pipeline.id} is {pipeline.state} and takes nothing over: look again")
    if checkpoint.source_sha256 != pipeline.program.source_sha256 or checkpoint.v > VERSION:
        raise _unfit(f"the checkpoint of {copy_id} is of another program or version than {pipeline.id}")
    events = checkpoint.held
    if intake.cut_into == 1:  # whoever was alone has the only share
        events = [replace(event, share=0) for event in events]
    if any(event.share is None for event in events):
        raise _unfit(f"{copy_id} runs on an older version and cannot divide what it held: update its worker")
    try:
        where = pipeline.program.divided_by(intake.key)
        state = part(checkpoint.state, where, intake.owns)
    except (Undivided, LookupError, TypeError) as error:
        raise _unfit(f"the state of {copy_id} cannot be divided: {error}") from None
    shares = pipeline.inputs.shares
    held = [event for event in events if event.share in shares]
    pipeline.pieces[copy_id] = Checkpoint(
        v=VERSION, source_sha256=checkpoint.source_sha256, state=state, held=held
    )


def take_back(pipeline: Pipeline, copy_id: str, checkpoint: Checkpoint) -> None:
    """Keep what the copy of a division that failed had taken in this one's lines, until this one goes on.

    Raises:
        WireError: `conflict`: the copy is in no state for that.
    """
    if pipeline.state is State.RUNNING:
        return  # it has gone on, with these
    if pipeline.state not in (State.HELD, State.HANDED_OVER):
        raise _unfit(f"pipeline {pipeline.id} is {pipeline.state} and takes nothing back: look again")
    shares = pipeline.inputs.shares
    held = [event for event in checkpoint.held if not shares or event.share in shares]
    pipeline.pieces[copy_id] = Checkpoint(
        v=VERSION, source_sha256=checkpoint.source_sha256, state={}, held=held
    )


def taken_back(pipeline: Pipeline) -> list[HeldEvent]:
    """The events of all pieces; they are no longer kept apart."""
    events = [event for piece in pipeline.pieces.values() for event in piece.held]
    pipeline.pieces.clear()
    return events


def put_together(pipeline: Pipeline) -> None:
    """Give a copy the state of its pieces, and have it hold the events of all in their order.

    Raises:
        WireError: `conflict`; it is as it was.
    """
    pieces = pipeline.pieces.values()
    state = joined(piece.state for piece in pieces)
    whole = Checkpoint(v=VERSION, source_sha256=pipeline.program.source_sha256, state=state)
    pipeline.restore(whole)
    theirs = [event for piece in pieces for event in piece.held]
    pipeline.held.replace(pipeline.witness.in_order(theirs, pipeline.held.events()))
    pipeline.pieces.clear()


def _unfit(text: str) -> WireError:
    return WireError(ErrorCode.CONFLICT, text)
