"""What takes time: migrations, drains, rebalancing."""

from typing import Annotated

import msgspec

from proto_schemas.messages.base import Message
from proto_schemas.rest.base import Pagination, View
from proto_schemas.subjects import Id


class MigrateRequest(Message, frozen=True, kw_only=True):
    """`POST /pipelines/{group}/{pipeline}/migrate`. `to`: a worker; null: as placement would choose."""

    to: Id | None = None


class MigrationStarted(View, frozen=True, kw_only=True):
    """Answer to that: it is under way."""

    migration_id: str
    pipeline: str
    group_id: str
    status: str


class MigrationView(View, frozen=True, kw_only=True):
    """`GET /migrations/{id}`. Statuses: started held handed_over done failed cancelled; causes: manual drain
    rebalance update leave. `reason`: what it meets now, why it ended, or what the pipeline went on without.
    Times in ms since 1970."""

    id: str
    group_id: str
    pipeline: str
    cause: str
    status: str
    from_worker: str
    from_epoch: int
    to_worker: str
    to_epoch: int
    reason: str | None
    started_at: int
    ended_at: int | None


class MigrationList(View, frozen=True, kw_only=True):
    """`GET /migrations`."""

    migrations: list[MigrationView]
    total: int
    pagination: Pagination


class DrainRequest(Message, frozen=True, kw_only=True):
    """`POST /workers/{id}/drain`. `timeout_secs`: when to give up; null: never."""

    timeout_secs: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None


class DrainView(View, frozen=True, kw_only=True):
    """`GET /workers/{id}/drain`. Statuses: active done failed cancelled. `left`: pipelines still there;
    `failed`: the last failure of each that could not be moved yet; `reason`: what stands in the way, or why
    it ended. Times in ms since 1970.
    """

    id: str
    worker_id: str
    cause: str
    status: str
    total: int
    moved: int
    left: int
    failed: dict[str, str]
    reason: str | None
    started_at: int
    deadline_at: int | None
    ended_at: int | None


class MoveView(View, frozen=True, kw_only=True):
    """One pipeline that should go to another worker."""

    group: str
    pipeline_name: str
    from_worker: str
    to_worker: str


class RebalanceView(View, frozen=True, kw_only=True):
    """`POST /rebalance`. `moves`: the whole plan; migrations were started for the first of them, in that
    order; `reason`: why the next one was not."""

    migrations_started: int
    migration_ids: list[str]
    moves: list[MoveView]
    reason: str | None = None
