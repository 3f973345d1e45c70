"""A group gets another version: as an update has it, as one of its history was, or with other replicas.

The three are one request. Each says with a command what it wants. With `dry_run` that is turned into the
update that it amounts to, and the answer is the plan of that; else it is proposed, and the answer is the
group once no update of it is under way.
"""

from typing import Annotated

from litestar import Response
from litestar.params import QueryParameter

from coordinator.api.context import Context, not_found
from coordinator.state.change import Refusal
from coordinator.state.commands import RollbackGroup, ScaleGroup, UpdateGroup
from coordinator.state.model import State
from coordinator.state.next_version import rollback_as_update, scale_as_update, updated
from coordinator.state.room import Room
from coordinator.state.update_plan import plan
from coordinator.state.versions import Group, UpdatePhase
from coordinator.state.views import group_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.groups import ROLLBACK_ASKED, GroupView, PlannedChange, UpdatePlan

DryRun = Annotated[bool, QueryParameter(name="dry_run", description="only say what would be done")]
Asked = UpdateGroup | RollbackGroup | ScaleGroup
Rolled = Response[GroupView] | Response[UpdatePlan]


async def roll(context: Context, group_id: str, asked: Asked, *, dry_run: bool, wait: float) -> Rolled:
    """The plan; or, once it is accepted, the group: 200 when all of the new version runs, 202 when that takes
    longer than `wait` seconds or was rolled back.

    Raises:
        WireError: as `Ledger.propose`.
    """
    if dry_run:
        return Response(_planned(context, asked), status_code=200)
    await context.ledger.propose(asked)
    return await _once_rolled(context, group_id, wait)


def with_version(context: Context, group: Group, status: int) -> Response[GroupView]:
    """The answer that shows a group."""
    view = group_view(context.ledger.state, group, context.loss_window, context.traffic())
    return Response(view, status_code=status, headers={"etag": f'"{group.version}"'})


async def _once_rolled(context: Context, name: str, wait: float) -> Response[GroupView]:
    """The group once no update of it is under way, or after `wait` seconds."""
    await context.ledger.wait_until(lambda: not _is_rolling(context, name), timeout=wait)
    group = context.ledger.state.groups.get(name)
    if group is None:
        raise WireError(
            ErrorCode.CONFLICT,
            f"group {name!r} was updated by this request and is torn down since: create it again",
        )
    update = group.update
    wanted = update is not None and (update.reason or "").startswith(ROLLBACK_ASKED)
    back = update is not None and update.phase is UpdatePhase.ROLLED_BACK and wanted
    runs = update is None or update.phase is UpdatePhase.DONE or back
    return with_version(context, group, 200 if runs else 202)


def _is_rolling(context: Context, name: str) -> bool:
    group = context.ledger.state.groups.get(name)
    return group is not None and (group.rolling is not None or group.division is not None)


def _planned(context: Context, asked: Asked) -> UpdatePlan:
    state = context.ledger.state
    try:
        command = _as_update(state, asked)
        present = state.groups.get(command.spec.name)
        group = updated(state, command) or present
    except Refusal as refusal:
        raise WireError(refusal.code, refusal.error, retryable=refusal.retryable) from None
    if group is None or present is None:
        raise not_found("group", command.spec.name, "/pipeline-groups")
    return UpdatePlan(
        id=group.spec.name,
        from_version=present.version,
        to_version=group.version,
        changes=[
            PlannedChange(
                pipeline_name=step.instance,
                change=step.change,
                worker_id=step.worker,
                reason=step.reason or None,
            )
            for step in plan(state, group, Room(state, strategy=context.config.placement))
        ],
    )


def _as_update(state: State, asked: Asked) -> UpdateGroup:
    """What was asked for, as an update.

    Raises:
        Refusal: it cannot be; WireError: it gives up the update that is under way, which has no plan.
    """
    if isinstance(asked, UpdateGroup):
        return asked
    if isinstance(asked, ScaleGroup):
        return scale_as_update(state, asked)
    back = rollback_as_update(state, asked)
    if back is None:
        raise WireError(
            ErrorCode.CONFLICT,
            f"group {asked.group!r} is being updated: a rollback gives that up, and all that was touched "
            "goes back; there is no other plan",
        )
    return back
