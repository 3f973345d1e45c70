"""API keys."""

from typing import Annotated, Literal

import msgspec

from proto_schemas.messages.base import Message
from proto_schemas.rest.base import Pagination, View


class KeyRequest(Message, frozen=True, kw_only=True):
    """`POST /keys`. `expires_in_secs` 0: never. `worker`: for role worker, the id of the one worker, or a
    prefix with `*` at its end, as which it counts; empty: as any whose id is free."""

    role: Literal["worker", "viewer", "operator", "admin"]
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""
    expires_in_secs: Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86_400)] = 0
    worker: Annotated[str, msgspec.Meta(max_length=65)] = ""


class RotateRequest(Message, frozen=True, kw_only=True):
    """`POST /keys/{id}/rotate`. `overlap_secs`: how long the old key goes on counting."""

    overlap_secs: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400)] = 0


class KeyCreated(View, frozen=True, kw_only=True):
    """A key that was made. `key` is told here and never again; `expires_at` in ms since 1970."""

    id: str
    role: str
    key: str
    expires_at: int | None

    def __repr__(self) -> str:
        return f"KeyCreated(id={self.id!r}, role={self.role!r}, key=***)"


class Whoami(View, frozen=True, kw_only=True):
    """`GET /whoami`: the role of the request, and the id of its key, where keys are asked for."""

    role: str
    key_id: str | None
    keys_required: bool


class KeyView(View, frozen=True, kw_only=True):
    """`GET /keys/{id}`. `status`: active, revoked or expired; `worker`: as whom it counts, empty: any.
    Times in ms since 1970."""

    id: str
    role: str
    status: str
    note: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None
    worker: str = ""


class KeyList(View, frozen=True, kw_only=True):
    """`GET /keys`."""

    keys: list[KeyView]
    total: int
    pagination: Pagination


class Revoked(View, frozen=True, kw_only=True):
    """Answer to `DELETE /keys/{id}`."""

    revoked: bool
