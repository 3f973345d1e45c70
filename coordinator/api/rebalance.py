"""`POST /rebalance`: even loads now, with the fewest moves; or, with `dry_run`, what that would take."""

from typing import Annotated

from litestar import post
from litestar.params import QueryParameter

from coordinator.api.context import Given
from coordinator.state.rebalance import Move
from proto_schemas.rest import MoveView, RebalanceView

DryRun = Annotated[bool, QueryParameter(name="dry_run", description="only say what would be moved")]


@post("/rebalance", status_code=200)
async def rebalance(context: Given, dry_run: DryRun = False) -> RebalanceView:
    """Start the moves. Asked again meanwhile it finds those started under way, and starts what is left."""
    if dry_run:
        moves = await context.rebalance.plan()
        return RebalanceView(migrations_started=0, migration_ids=[], moves=[_view(move) for move in moves])
    started = await context.rebalance.start()
    return RebalanceView(
        migrations_started=len(started.ids),
        migration_ids=started.ids,
        moves=[_view(move) for move in started.moves],
        reason=str(started.refused) if started.refused is not None else None,
    )


def _view(move: Move) -> MoveView:
    return MoveView(
        group=move.group,
        pipeline_name=move.pipeline,
        from_worker=move.from_worker,
        to_worker=move.to_worker,
    )


HANDLERS = [rebalance]
