"""How a pipeline on a stream passes from one copy to another: `worker.handover`, for those that have a feed.

Nothing is held and no line is joined, for what comes stays in the stream: the old copy stops where it is, and
gives its state with its position; the new one goes on from there. The steps are the coordinator's, and each
may be repeated. Should the old copy not have heard that it was replaced, the stream refuses what it puts out.
"""

import time
from typing import Final

from proto_schemas.errors import ErrorCode, WireError
from worker.checkpoints import Checkpoint
from worker.connectors.base import ConnectorError
from worker.delivery.feed import SETTLE_WAIT, Feed, Unsettled
from worker.delivery.writer import Fenced
from worker.pipeline import Pipeline, State

_MAY_RESUME: Final = frozenset((State.RUNNING, State.HELD, State.HANDED_OVER))


async def hold(pipeline: Pipeline, feed: Feed) -> None:
    """Take no more inputs.

    Raises:
        WireError: `conflict`, it is in no state for that.
    """
    async with pipeline.moving:
        if pipeline.state is State.RUNNING:
            pipeline.state, pipeline.held_since = State.HELD, time.monotonic()
            await feed.pause()
        elif pipeline.state not in (State.HELD, State.HANDED_OVER):
            raise _unfit(pipeline, "hold")


async def hand_over(pipeline: Pipeline, feed: Feed) -> None:
    """Come to rest: on return nothing is handled here any more, and what came of it is stored.

    Raises:
        WireError: `conflict`, it is in no state for that; `unavailable`, it is not stored in time.
    """
    async with pipeline.moving:
        if pipeline.state is State.HANDED_OVER:
            return
        if pipeline.state not in (State.RUNNING, State.HELD):
            raise _unfit(pipeline, "hand over")
        pipeline.state, pipeline.held_since = State.HELD, None
        await feed.pause()
        try:
            await feed.settle(SETTLE_WAIT)
        except Unsettled as error:
            pipeline.held_since = time.monotonic()
            text = f"pipeline {pipeline.id}: {error}: try again"
            raise WireError(ErrorCode.UNAVAILABLE, text) from None
        except Fenced as error:
            pipeline.fail(f"it was fenced off: {error}")
            raise _unfit(pipeline, "hand over") from None
        pipeline.joined = False
        pipeline.state = State.HANDED_OVER


async def resume(pipeline: Pipeline, feed: Feed, checkpoint: Checkpoint | None, *, anew: bool) -> None:
    """Go live, from the state and the position of `checkpoint`, if `anew` from its position alone; without
    one, from where it is.

    Raises:
        WireError: `conflict`, the checkpoint does not fit, or the copy is in no state for that;
            `stale_epoch`, a newer one has taken over; `unavailable`, its stream does not answer.
    """
    async with pipeline.moving:
        if pipeline.state is State.RUNNING:
            return
        if pipeline.state not in _MAY_RESUME:
            raise _unfit(pipeline, "resume")
        if checkpoint is not None:
            if anew:
                feed.go_from(checkpoint)
            else:
                pipeline.restore(checkpoint)
        try:
            await feed.begin()
        except ConnectorError as error:
            text = f"pipeline {pipeline.id} cannot go on: {error}: try again"
            raise WireError(ErrorCode.UNAVAILABLE, text) from None
        except WireError as error:
            pipeline.fail(str(error))
            raise
        pipeline.state, pipeline.held_since = State.RUNNING, None
        pipeline.has_run = pipeline.joined = True


def _unfit(pipeline: Pipeline, what: str) -> WireError:
    return WireError(
        ErrorCode.CONFLICT, f"pipeline {pipeline.id} is {pipeline.state} and cannot {what}: look again"
    )
