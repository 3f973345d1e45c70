"""`/pipeline-groups`: deploy, look, update, roll back, tear down. A write answers at once what is certain and
waits for the rest."""

import re

from litestar import Response, delete, get, post, put
from litestar.params import FromPath

from coordinator.api.context import (
    DEFAULT_WAIT,
    AnyRequest,
    Because,
    Context,
    Given,
    Limit,
    Offset,
    Wait,
    not_found,
    page,
    read_body,
    read_optional_body,
    request_id,
)
from coordinator.api.new_version import DryRun, Rolled, roll, with_version
from coordinator.api.programs import Programs, check_group, undivided
from coordinator.api.shape import check_shape
from coordinator.state.commands import CreateGroup, DeleteGroup, RollbackGroup, ScaleGroup, UpdateGroup
from coordinator.state.next_version import scaled
from coordinator.state.versions import Group
from coordinator.state.views import group_status, group_view, history_view
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.groups import (
    GroupList,
    GroupSpec,
    GroupView,
    HistoryView,
    RollbackRequest,
    ScaleRequest,
    TornDown,
)


@post("/pipeline-groups", opt={"body": GroupSpec, "also": {202: GroupView}, "refuses": (422,)})
async def create_group(
    request: AnyRequest, context: Given, wait: Wait = DEFAULT_WAIT, why: Because = ""
) -> Response[GroupView]:
    """Deploy a group: 201 once every pipeline runs, 202 when that takes longer than `wait` or has failed."""
    spec = await read_body(request, GroupSpec)
    key = request_id(request)
    programs = await _programs(context, spec, key)
    if spec.delivery != AT_MOST_ONCE and not context.ledger.remembers(key):
        await context.deliveries.check()
    command = CreateGroup(
        by="api",
        request_id=key,
        spec=spec,
        consumes=programs.consumes,
        connectors=programs.connectors,
        why=why,
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
    view = group_view(context.ledger.state, group, context.loss_window, context.traffic())
    return Response(view, status_code=201 if view.status == "running" else 202)


@get("/pipeline-groups")
async def list_groups(context: Given, limit: Limit = 50, offset: Offset = 0) -> GroupList:
    """All groups, by id."""
    state = context.ledger.state
    names, pagination = page(sorted(state.groups), limit, offset)
    traffic = context.traffic()
    views = [group_view(state, state.groups[name], context.loss_window, traffic) for name in names]
    return GroupList(pipeline_groups=views, total=pagination.total, pagination=pagination)


@get("/pipeline-groups/{group_id:str}")
async def get_group(context: Given, group_id: FromPath[str]) -> Response[GroupView]:
    """One group; `ETag` holds its version."""
    return with_version(context, _group(context, group_id), 200)


@put(
    "/pipeline-groups/{group_id:str}",
    status_code=200,
    opt={"body": GroupSpec, "also": {202: GroupView}, "refuses": (422,), "headers": ("if-match",)},
)
async def update_group(
    request: AnyRequest,
    context: Given,
    group_id: FromPath[str],
    wait: Wait = DEFAULT_WAIT,
    dry_run: DryRun = False,
    why: Because = "",
) -> Rolled:
    """Roll a group to another version: 200 once all of it runs, 202 when that takes longer than `wait` or was
    rolled back. `If-Match` holds the version that it must have."""
    spec = await read_body(request, GroupSpec)
    if spec.name != group_id:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"GroupSpec: $.name: {spec.name!r} is not the group of the path, {group_id[:80]!r}: a group "
            "keeps its name",
        )
    key = request_id(request)
    programs = await _programs(context, spec, key)
    command = UpdateGroup(
        by="api",
        request_id=key,
        spec=spec,
        consumes=programs.consumes,
        connectors=programs.connectors,
        if_version=_if_match(request),
        why=why,
        undivided=programs.undivided,
    )
    return await roll(context, group_id, command, dry_run=dry_run, wait=wait)


@get("/pipeline-groups/{group_id:str}/history")
async def get_history(context: Given, group_id: FromPath[str]) -> HistoryView:
    """The last versions of a group, newest first: since when, by whom, why."""
    return history_view(_group(context, group_id))


@post(
    "/pipeline-groups/{group_id:str}/rollback",
    status_code=200,
    opt={
        "optional_body": RollbackRequest,
        "also": {202: GroupView},
        "refuses": (422,),
        "headers": ("if-match",),
    },
)
async def rollback_group(
    request: AnyRequest,
    context: Given,
    group_id: FromPath[str],
    wait: Wait = DEFAULT_WAIT,
    dry_run: DryRun = False,
) -> Rolled:
    """Roll a group to what it was before, or as a version of its history, under a new number; or give up the
    update that is under way. Otherwise as an update."""
    asked = await read_optional_body(request, RollbackRequest)
    command = RollbackGroup(
        by="api",
        request_id=request_id(request),
        group=group_id,
        to=asked.to,
        if_version=_if_match(request),
        why=asked.why,
        undivided=await _undivided(context, group_id),
    )
    return await roll(context, group_id, command, dry_run=dry_run, wait=wait)


@post(
    "/pipeline-groups/{group_id:str}/scale",
    status_code=200,
    opt={"body": ScaleRequest, "also": {202: GroupView}, "refuses": (422,), "headers": ("if-match",)},
)
async def scale_group(
    request: AnyRequest,
    context: Given,
    group_id: FromPath[str],
    wait: Wait = DEFAULT_WAIT,
    dry_run: DryRun = False,
) -> Rolled:
    """Give a pipeline another number of replicas; otherwise as an update."""
    asked = await read_body(request, ScaleRequest)
    if (group := context.ledger.state.groups.get(group_id)) is not None:
        check_shape(scaled(group.spec, asked.pipeline, asked.replicas), context.config.prefix)
    command = ScaleGroup(
        by="api",
        request_id=request_id(request),
        group=group_id,
        pipeline=asked.pipeline,
        replicas=asked.replicas,
        if_version=_if_match(request),
        why=asked.why,
        undivided=await _undivided(context, group_id),
    )
    return await roll(context, group_id, command, dry_run=dry_run, wait=wait)


@delete("/pipeline-groups/{group_id:str}", status_code=200, opt={"also": {202: TornDown}})
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


async def _undivided(context: Context, name: str) -> dict[str, str]:
    group = context.ledger.state.groups.get(name)
    return await undivided(group.spec, context.ledger.state.connectors) if group is not None else {}


async def _programs(context: Context, spec: GroupSpec, key: str) -> Programs:
    """What its programs need; raises as `check_group`, unless this very request was accepted before."""
    try:
        return await check_group(spec, context.config.prefix, context.ledger.state.connectors)
    except WireError:
        if not context.ledger.remembers(key):
            raise
        return Programs({}, {}, {})  # it was fine the first time, and that answer counts


def _if_match(request: AnyRequest) -> int | None:
    header = request.headers.get("if-match", "*").strip()
    found = re.fullmatch(r'(?:W/)?"?([0-9]{1,15})"?', header)
    if found is None and header != "*":
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f'If-Match: {header[:80]!r} is no version of a group: send the ETag of its GET, such as "3"',
        )
    return int(found[1]) if found is not None else None


def _group(context: Context, name: str) -> Group:
    group = context.ledger.state.groups.get(name)
    if group is None:
        raise not_found("group", name, "/pipeline-groups")
    return group


def _status(context: Context, name: str) -> str:
    state = context.ledger.state
    group = state.groups.get(name)
    return group_status(group, state.placements[name]) if group is not None else "torn_down"


HANDLERS = [
    create_group,
    list_groups,
    get_group,
    update_group,
    get_history,
    rollback_group,
    scale_group,
    delete_group,
]
