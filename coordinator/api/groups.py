"""`/pipeline-groups`: deploy, look, tear down. A write answers at once what is certain and waits for the
rest."""

from litestar import Response, delete, get, post
from litestar.params import FromPath

from coordinator.api.context import (
    DEFAULT_WAIT,
    AnyRequest,
    Context,
    Given,
    Limit,
    Offset,
    Wait,
    not_found,
    page,
    read_body,
    request_id,
)
from coordinator.api.programs import Programs, check_group
from coordinator.state.commands import CreateGroup, DeleteGroup
from coordinator.state.model import Group
from coordinator.state.views import group_status, group_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest import GroupList, GroupSpec, GroupView, TornDown


@post("/pipeline-groups", opt={"body": GroupSpec})
async def create_group(request: AnyRequest, context: Given, wait: Wait = DEFAULT_WAIT) -> Response[GroupView]:
    """Deploy a group: 201 once every pipeline runs, 202 when that takes longer than `wait` or has failed."""
    spec = await read_body(request, GroupSpec)
    key = request_id(request)
    try:
        programs = await check_group(spec, context.config.prefix, context.ledger.state.connectors)
    except WireError:
        if key not in context.ledger.state.remembered:
            raise
        programs = Programs({}, {})  # it was fine the first time, and that answer counts
    command = CreateGroup(
        by="api",
        request_id=key,
        spec=spec,
        consumes=programs.consumes,
        connectors=programs.connectors,
    )
    await context.ledger.propose(command)
    await context.ledger.wait_until(
        lambda: _status(context, spec.name) not in ("deploying", "partially_running"), timeout=wait
    )
    group = context.ledger.state.groups.get(spec.name)
    if group is None:
        raise WireError(
            ErrorCode.CONFLICT,
            f"group {spec.name!r} was created by this request and is torn down since: "
            "create it again with a new Idempotency-Key",
        )
    view = group_view(context.ledger.state, group)
    return Response(view, status_code=201 if view.status == "running" else 202)


@get("/pipeline-groups")
async def list_groups(context: Given, limit: Limit = 50, offset: Offset = 0) -> GroupList:
    """All groups, by id."""
    state = context.ledger.state
    names, pagination = page(sorted(state.groups), limit, offset)
    views = [group_view(state, state.groups[name]) for name in names]
    return GroupList(pipeline_groups=views, total=pagination.total, pagination=pagination)


@get("/pipeline-groups/{group_id:str}")
async def get_group(context: Given, group_id: FromPath[str]) -> GroupView:
    """One group."""
    return group_view(context.ledger.state, _group(context, group_id))


@delete("/pipeline-groups/{group_id:str}", status_code=200)
async def delete_group(
    request: AnyRequest, context: Given, group_id: FromPath[str], wait: Wait = DEFAULT_WAIT
) -> Response[TornDown]:
    """Tear a group down: 200 once every worker has let go, 202 when that takes longer than `wait`."""
    await context.ledger.propose(DeleteGroup(by="api", request_id=request_id(request), group=group_id))
    left = context.ledger.state.groups.get(group_id)
    if left is not None and not left.deleting:
        raise WireError(
            ErrorCode.CONFLICT,
            f"this Idempotency-Key tore down an earlier group {group_id!r}: use a new key for this one",
        )
    gone = await context.ledger.wait_until(lambda: group_id not in context.ledger.state.groups, timeout=wait)
    answer = TornDown(torn_down=gone, status="torn_down" if gone else "deleting")
    return Response(answer, status_code=200 if gone else 202)


def _group(context: Context, name: str) -> Group:
    group = context.ledger.state.groups.get(name)
    if group is None:
        raise not_found("group", name, "/pipeline-groups")
    return group


def _status(context: Context, name: str) -> str:
    state = context.ledger.state
    group = state.groups.get(name)
    return group_status(group, state.placements[name]) if group is not None else "torn_down"


HANDLERS = [create_group, list_groups, get_group, delete_group]
