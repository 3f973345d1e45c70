"""Commands about API keys.

A key is its id, its role and a digest; its secret was never here. Expiry is a time in the record, looked at
where a key is checked and never in `apply`. A revoked key stays as a record, so that a key file which still
names it does not bring it back; past `MAX_KEYS` the one revoked longest ago is forgotten.
"""

from msgspec.structs import replace

from coordinator.state.change import Change, refuse
from coordinator.state.commands import CreateKey, RevokeKey
from coordinator.state.limits import MAX_KEYS
from coordinator.state.model import State
from coordinator.state.records import ApiKey, KeyRole
from coordinator.state.results import Done, Result
from proto_schemas.errors import ErrorCode


def create_key(change: Change[CreateKey]) -> Result:
    """A new key; with `replaces` the other one ends after `overlap_ms`. One of a key file may be known."""
    state, command = change.state, change.command
    if command.key_id in state.keys:
        if command.from_file:
            return Done()
        refuse(ErrorCode.CONFLICT, f"there is a key {command.key_id!r} already: choose another id")
    replaced = state.keys.get(command.replaces) if command.replaces else None
    if command.replaces and (replaced is None or not replaced.counts(command.at)):
        refuse(ErrorCode.NOT_FOUND, f"there is no key {command.replaces!r} that counts: see GET /keys")
    _make_room(state)
    if replaced is not None:
        end = command.at + command.overlap_ms
        ends = min(replaced.expires_at or end, end)
        state.keys[replaced.id] = replace(replaced, expires_at=ends, replaced_by=command.key_id)
    state.keys[command.key_id] = ApiKey(
        id=command.key_id,
        role=command.role,
        salt=command.salt,
        digest=command.digest,
        note=command.note,
        created_at=command.at,
        expires_at=command.expires_at,
        worker=command.worker,
    )
    why = f"in place of {command.replaces}" if command.replaces else ("key file" if command.from_file else "")
    change.tell("key_created", command.key_id, f"{command.role}{': ' if why else ''}{why}")
    return Done()


def revoke_key(change: Change[RevokeKey]) -> Result:
    """It counts no longer. The last admin key only with `force`: nobody could make another with it."""
    state, command = change.state, change.command
    key = state.keys.get(command.key_id)
    if key is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no key {command.key_id!r}: see GET /keys")
    if key.revoked_at:
        return Done()
    if key.role is KeyRole.ADMIN and not command.force and key.counts(command.at):
        others = (other for other in state.keys.values() if other.id != key.id and not other.expires_at)
        if not any(other.role is KeyRole.ADMIN and other.counts(command.at) for other in others):
            refuse(
                ErrorCode.CONFLICT,
                f"{key.id} is the last admin key that does not expire: make another first, or say force "
                "(then only a key file of a coordinator makes one)",
            )
    state.keys[key.id] = replace(key, revoked_at=command.at)
    change.tell("key_revoked", key.id)
    return Done()


def _make_room(state: State) -> None:
    if len(state.keys) < MAX_KEYS:
        return
    revoked = [key for key in state.keys.values() if key.revoked_at]
    if not revoked:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"the cluster has {MAX_KEYS} keys: revoke some first")
    del state.keys[min(revoked, key=lambda key: (key.revoked_at, key.id)).id]
