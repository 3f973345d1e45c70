"""The last versions of a group: what it was, since when, by whom and why; a rollback takes them from here.

Each version is an `Edition`. That of the version which the group has holds no revision, since the group
itself is that; any other one holds all that it takes to go back to it. At most `MAX_EDITIONS` are kept, and
beside the group's own and the one that it would go back to only as many as fit into `MAX_BYTES`: the oldest
go first. A version that failed stays, with the reason, until it is the oldest.

Specs lie here as they lie in the group: what is sealed there (the parameters of registered connectors) is
not part of them, and what a program holds in the clear is told to nobody who may not read the group.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from coordinator.state.change import refuse
from coordinator.state.versions import Edition, Group, Revision
from proto_schemas.errors import ErrorCode

MAX_EDITIONS: Final = 5
MAX_BYTES: Final = 256 * 1024
"""Encoded bytes of the revisions that are kept of one group beside those that always are (a command of the
log bounds each of these)."""

Editions = tuple[Edition, ...]
_encode: Final = msgspec.msgpack.Encoder().encode


def begun(at: int, by: str, why: str) -> Editions:
    """Of a new group."""
    return (Edition(version=1, at=at, by=by, why=why),)


def known(group: Group) -> Editions:
    """By version, oldest first. That of a group from before there was a history begins with what it is."""
    if any(edition.version == group.version for edition in group.history):
        return group.history
    since = group.created_at if group.update is None else group.update.started_at
    return (*group.history, Edition(version=group.version, at=since, by=""))


def followed(group: Group, new: Edition) -> Editions:
    """Of the group once it is of the version of `new`."""
    editions = (_left(each, group) if each.version == group.version else each for each in known(group))
    return _kept([*editions, new], new.version)


def returned(group: Group, former: Group, reason: str) -> Editions:
    """Of `group` once it is again what it was before its update, which failed for a `reason`."""
    editions = [
        replace(_left(each, group), failed=reason)
        if each.version == group.version
        else replace(each, revision=None, size=0)
        if each.version == former.version
        else each
        for each in known(group)
    ]
    return _kept(editions, former.version)


def refused(group: Group, failed: Edition) -> Editions:
    """Of a group that stays what it is: another version never came to be."""
    if failed.revision is not None:
        failed = replace(failed, size=len(_encode(failed.revision)))
    return _kept([*known(group), failed], group.version)


def before(group: Group, version: int | None) -> Revision:
    """What a group is to be again: what it was as `version`, or, by default, before the one that it has.

    Raises:
        Refusal: `not_found`, naming those that are kept.
    """
    editions = known(group)
    there = {each.version: each.revision for each in editions}
    there[group.version] = revision_of(group)
    if version is None:
        last = _last_good(editions, group.version)
        if last is None or last.revision is None:
            refuse(
                ErrorCode.NOT_FOUND,
                f"no version of group {group.spec.name!r} from before version {group.version} is kept: "
                "update it with PUT",
            )
        return last.revision
    found = there.get(version)
    if found is None:
        kept = ", ".join(str(each) for each in there)
        refuse(
            ErrorCode.NOT_FOUND,
            f"version {version} of group {group.spec.name!r} is not kept: choose one of {kept}",
        )
    return found


def revision_of(group: Group) -> Revision:
    """What the group is now."""
    return Revision(
        version=group.version, spec=group.spec, consumes=group.consumes, connectors=group.connectors
    )


def _left(edition: Edition, group: Group) -> Edition:
    """The edition of the version that the group has, once it has another one."""
    revision = revision_of(group)
    return replace(edition, revision=revision, size=len(_encode(revision)))


def _last_good(editions: Iterable[Edition], version: int) -> Edition | None:
    earlier = [each for each in editions if each.version < version and each.failed is None and each.revision]
    return earlier[-1] if earlier else None


def _kept(editions: list[Edition], present: int) -> Editions:
    """As many as there is room for; versions that failed go first, then the oldest."""
    last = _last_good(editions, present)
    always = {present, editions[-1].version, last.version if last is not None else present}
    rest = [each for each in editions if each.version not in always]
    rest.sort(key=lambda each: (each.failed is None, each.version))
    while rest and (len(rest) + len(always) > MAX_EDITIONS or sum(each.size for each in rest) > MAX_BYTES):
        rest.pop(0)
    kept = always | {each.version for each in rest}
    return tuple(each for each in editions if each.version in kept)
