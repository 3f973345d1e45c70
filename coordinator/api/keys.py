"""`/keys`: make, look, revoke, replace. For admins.

The secret of a key is in the answer that made it and nowhere else. So a second try of the same request, sent
because the first answer was lost, cannot be given it: it is a conflict that says so.
"""

import hashlib
from typing import Annotated

from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter

from coordinator.api.context import (
    AnyRequest,
    Context,
    Given,
    Limit,
    Offset,
    not_found,
    page,
    read_body,
    request_id,
)
from coordinator.ledger import now_ms
from coordinator.security.actor import acting
from coordinator.security.keys import Key, digest, new_key
from coordinator.state.commands import CreateKey, RevokeKey
from coordinator.state.names import fault_of_binding
from coordinator.state.records import ApiKey, KeyRole
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.keys import KeyCreated, KeyList, KeyRequest, KeyView, Revoked, RotateRequest, Whoami

Force = Annotated[bool, QueryParameter(name="force", description="also the last admin key")]


@post("/keys", opt={"body": KeyRequest, "repeatable": False})
async def create_key(request: AnyRequest, context: Given) -> KeyCreated:
    """A new key; the answer holds it whole, for the only time."""
    asked = await read_body(request, KeyRequest)
    expires_at = now_ms() + asked.expires_in_secs * 1000 if asked.expires_in_secs else 0
    role = KeyRole(asked.role)
    if asked.worker:
        fault = (
            fault_of_binding(asked.worker)
            if role is KeyRole.WORKER
            else f"a key of role {role} speaks as no worker: leave it out, or make a key of role worker"
        )
        if fault is not None:
            raise WireError(ErrorCode.BAD_REQUEST, f"KeyRequest: $.worker: {fault}")
    return await _made(request, context, role, note=asked.note, expires_at=expires_at, worker=asked.worker)


@get("/whoami", opt={"anywhere": True})
async def whoami(context: Given) -> Whoami:
    """As whom this request came in."""
    known = context.ledger.state.keys.get(acting())
    role = KeyRole.ADMIN if known is None else known.role
    return Whoami(role=role, key_id=None if known is None else known.id, keys_required=context.door.required)


@get("/keys")
async def list_keys(context: Given, limit: Limit = 50, offset: Offset = 0) -> KeyList:
    """All keys, by id, without their secrets."""
    known = context.ledger.state.keys
    names, pagination = page(sorted(known), limit, offset)
    return KeyList(keys=[_view(known[name]) for name in names], total=pagination.total, pagination=pagination)


@get("/keys/{key_id:str}")
async def get_key(context: Given, key_id: FromPath[str]) -> KeyView:
    """One key."""
    return _view(_known(context, key_id))


@delete("/keys/{key_id:str}", status_code=200)
async def revoke_key(
    request: AnyRequest, context: Given, key_id: FromPath[str], force: Force = False
) -> Revoked:
    """It counts no longer, from now on and on every node that hears of it."""
    await context.ledger.propose(
        RevokeKey(by="api", request_id=request_id(request), key_id=key_id, force=force)
    )
    return Revoked(revoked=True)


@post("/keys/{key_id:str}/rotate", opt={"body": RotateRequest, "repeatable": False})
async def rotate_key(request: AnyRequest, context: Given, key_id: FromPath[str]) -> KeyCreated:
    """A new key in place of another, bound as that one was, which goes on counting for `overlap_secs`."""
    asked = await read_body(request, RotateRequest)
    old = _known(context, key_id)
    return await _made(
        request,
        context,
        old.role,
        note=old.note,
        replaces=old.id,
        overlap_ms=asked.overlap_secs * 1000,
        worker=old.worker,
    )


HANDLERS = [whoami, create_key, list_keys, get_key, revoke_key, rotate_key]


async def _made(
    request: AnyRequest,
    context: Context,
    role: KeyRole,
    *,
    note: str,
    expires_at: int = 0,
    replaces: str = "",
    overlap_ms: int = 0,
    worker: str = "",
) -> KeyCreated:
    asked_as = request_id(request)
    key = Key(hashlib.blake2b(asked_as.encode(), digest_size=6).hexdigest(), new_key().secret)
    sealed = digest(key)
    command = CreateKey(
        by="api",
        request_id=asked_as,
        key_id=key.id,
        role=role,
        salt=sealed.salt,
        digest=sealed.digest,
        note=note,
        expires_at=expires_at,
        replaces=replaces,
        overlap_ms=overlap_ms,
        worker=worker,
    )
    try:
        await context.ledger.propose(command)
    except WireError as error:
        if error.code == ErrorCode.CONFLICT and key.id in context.ledger.state.keys:
            text = f"this request made key {key.id}, whose secret was told only then: revoke it, make another"
            raise WireError(ErrorCode.CONFLICT, text) from None
        raise
    return KeyCreated(id=key.id, role=role.value, key=key.text, expires_at=expires_at or None)


def _known(context: Context, key_id: str) -> ApiKey:
    key = context.ledger.state.keys.get(key_id)
    if key is None:
        raise not_found("key", key_id, "/keys")
    return key


def _view(key: ApiKey) -> KeyView:
    at = now_ms()
    status = "active" if key.counts(at) else "revoked" if key.revoked_at else "expired"
    return KeyView(
        id=key.id,
        role=key.role.value,
        status=status,
        note=key.note,
        created_at=key.created_at,
        expires_at=key.expires_at or None,
        revoked_at=key.revoked_at or None,
        replaced_by=key.replaced_by,
        worker=key.worker,
    )
