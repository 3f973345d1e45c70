"""`/migrations`, and `/pipelines/{group}/{pipeline}/migrate`: pipelines on their way from one worker to
another.

To ask for a move is to have it written down; it is driven by the leader, and shown here until it has ended
and for long after.
"""

from litestar import get, post
from litestar.params import FromPath

from coordinator.api.context import (
    AnyRequest,
    Given,
    Limit,
    Offset,
    not_found,
    page,
    read_optional_body,
    request_id,
)
from coordinator.state.commands import StartMigration
from coordinator.state.records import Cause
from coordinator.state.results import Started
from coordinator.state.views import migration_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.jobs import MigrateRequest, MigrationList, MigrationStarted, MigrationView


@post(
    "/pipelines/{group_id:str}/{pipeline:str}/migrate",
    status_code=202,
    opt={"optional_body": MigrateRequest},
)
async def migrate(
    request: AnyRequest, context: Given, group_id: FromPath[str], pipeline: FromPath[str]
) -> MigrationStarted:
    """Move a pipeline to another worker without losing an event; 202 as soon as that is decided."""
    asked = await read_optional_body(request, MigrateRequest)
    result = await context.ledger.propose(
        StartMigration(
            by="api",
            request_id=request_id(request),
            group=group_id,
            pipeline=pipeline,
            epoch=0,
            to_worker=asked.to or "",
            cause=Cause.MANUAL,
        )
    )
    if not isinstance(result, Started):
        raise WireError(ErrorCode.INTERNAL, "a defect: a migration began without an id")
    return MigrationStarted(migration_id=result.id, pipeline=pipeline, group_id=group_id, status="started")


@get("/migrations")
async def list_migrations(context: Given, limit: Limit = 50, offset: Offset = 0) -> MigrationList:
    """Those under way and the last that ended, newest first."""
    state = context.ledger.state
    known = sorted(
        [*state.migrations.values(), *state.ended_migrations.values()],
        key=lambda move: move.to_epoch,
        reverse=True,
    )
    part, pagination = page(known, limit, offset)
    views = [migration_view(move) for move in part]
    return MigrationList(migrations=views, total=pagination.total, pagination=pagination)


@get("/migrations/{migration_id:str}")
async def get_migration(context: Given, migration_id: FromPath[str]) -> MigrationView:
    """One migration."""
    state = context.ledger.state
    move = state.migrations.get(migration_id) or state.ended_migrations.get(migration_id)
    if move is None:
        raise not_found("migration", migration_id, "/migrations")
    return migration_view(move)


HANDLERS = [migrate, list_migrations, get_migration]
