"""`POST /rebalance`: even loads now, with the fewest moves; or, with `dry_run`, what that would take.

One request at a time: the next one sees what is under way by then. With an `Idempotency-Key` the first answer
is kept (`once`); whoever asks again because it was lost with its leader has what is left started.
"""

from typing import Annotated

import msgspec
from litestar import Response, post
from litestar.params import QueryParameter

from coordinator.api import once
from coordinator.api.context import AnyRequest, Given
from coordinator.state.rebalance import Move
from proto_schemas.rest.jobs import MoveView, RebalanceView

DryRun = Annotated[bool, QueryParameter(name="dry_run", description="only say what would be moved")]


@post("/rebalance", status_code=200)
async def rebalance(
    request: AnyRequest, context: Given, dry_run: DryRun = False
) -> RebalanceView | Response[bytes]:
    """Start the moves. Asked again meanwhile it finds those started under way, and starts what is left."""
    if dry_run:
        moves = await context.rebalance.plan()
        return RebalanceView(migrations_started=0, migration_ids=[], moves=[_view(move) for move in moves])
    async with context.rebalance.alone:
        kept = await once.begin(request, context, lambda: "")
        if kept.answer is not None:
            return kept.answer
        started = await context.rebalance.start()
        view = RebalanceView(
            migrations_started=len(started.ids),
            migration_ids=started.ids,
            moves=[_view(move) for move in started.moves],
            reason=str(started.refused) if started.refused is not None else None,
        )
        return await kept.end(200, msgspec.json.encode(view))


def _view(move: Move) -> MoveView:
    return MoveView(
        group=move.group,
        pipeline_name=move.pipeline,
        from_worker=move.from_worker,
        to_worker=move.to_worker,
    )


HANDLERS = [rebalance]
