"""`POST /snapshot`: the state of this running cluster becomes that of a copy.

Any coordinator does it, leader or not, as with `GET`: the copy is large, so it goes once over HTTP, to the
node that is asked, and from there as parts into the log (`coordinator.state.restore`), which any node can
propose to. So the death of the leader costs the client nothing: the parts go to the next one. When the node
that is asked dies, the same request to another goes on where this one stopped, because upload and parts are
known by what the copy is and by its `Idempotency-Key`.

**Never by accident.** `confirm` has to name this cluster, and `from_cluster` the one the copy comes from when
that is another. A copy that is damaged, or of a format this version does not know, is refused before
anything is proposed.

**Bounds.** A body has at most `MAX_BODY` bytes and is held once; each node takes one at a time. `AT_ONCE`
parts are on their way through the log together. All of it ends after `wait` seconds, and what is known then
is that nothing was changed, unless the commit itself was under way.

The order: first the commit is proposed. It is what an earlier request under this key may have left undone, or
may have done already, and then its answer comes again; it is refused while the copy is not there. Then the
copy is begun, the parts that are missing are sent, and it is proposed again.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from litestar import post
from litestar.params import QueryParameter

from coordinator.api.context import AnyRequest, Context, Given, Wait, request_id, whole_body
from coordinator.state.commands import BeginRestore, CommitRestore, PutPart
from coordinator.state.limits import MAX_COPY
from coordinator.state.restore import PART_BYTES, TAKEN, parts_of
from coordinator.state.results import Restored
from coordinator.state.snapshot import as_newest
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.raft import RestoreResult
from raft.backup import BackupInfo, checksum, unpack

PATH: Final = "/snapshot"
MAX_BODY: Final = MAX_COPY + 64 * 1024
"""Bytes: a copy with its header."""
RESTORE_WAIT: Final = 30.0
AT_ONCE: Final = 4
"""Parts under way through the log."""
BEFORE_ANOTHER_TRY: Final = 0.1
"""Seconds until a copy is begun again that was given up in the middle."""

Confirm = Annotated[
    str | None,
    QueryParameter(name="confirm", description="the id of this cluster: its state is replaced"),
]
FromCluster = Annotated[
    str | None,
    QueryParameter(name="from_cluster", description="the id of the copy's cluster, if that is another one"),
]


@post(
    PATH,
    status_code=200,
    opt={"anywhere": True, "body_of_bytes": "application/octet-stream"},
    request_max_body_size=MAX_BODY,
)
async def restore_snapshot(
    request: AnyRequest,
    context: Given,
    wait: Wait = RESTORE_WAIT,
    confirm: Confirm = None,
    from_cluster: FromCluster = None,
) -> RestoreResult:
    """Replace the state of the whole cluster by that of a copy that `GET /snapshot` gave. What is the same
    in both goes on; workers stay. What was decided after the copy was made is undone.
    """
    deadline = time.monotonic() + wait
    async with _alone(request):
        await _check_meant(request, context, confirm)
        body = await whole_body(request)
        key = request_id(request)
        info, state, crc = await asyncio.to_thread(_opened, body)
        _check_origin(info, context.config.cluster_id, from_cluster)
        begin = BeginRestore(
            by="api",
            upload=hashlib.sha256(f"{key} {info.cluster} {len(state)} {crc}".encode()).hexdigest()[:32],
            size=len(state),
            crc=crc,
            cluster=info.cluster,
            taken_at=info.taken_at_ms,
            last_index=info.last_index,
            key=key,
        )
        done = await _restore(context, begin, state, deadline)
    return RestoreResult(
        cluster_id=info.cluster,
        last_index=info.last_index,
        taken_at_ms=info.taken_at_ms,
        groups=done.groups,
        pipelines=done.pipelines,
        kept=done.kept,
    )


@contextlib.asynccontextmanager
async def _alone(request: AnyRequest) -> AsyncIterator[None]:
    """One at a time: each holds a whole copy in memory."""
    if request.app.state.get("restoring"):
        await _drain(request)
        raise WireError(ErrorCode.UNAVAILABLE, "this node is restoring a copy already: ask again in a moment")
    request.app.state["restoring"] = True
    try:
        yield
    finally:
        request.app.state["restoring"] = False


async def _check_meant(request: AnyRequest, context: Context, confirm: str | None) -> None:
    ours = context.config.cluster_id
    reason = context.outside()
    if reason is None and confirm == ours:
        return
    await _drain(request)
    if reason is not None:
        raise WireError(ErrorCode.UNAVAILABLE, reason)
    told = "does not say which" if confirm is None else f"says {confirm[:80]!r}"
    raise WireError(
        ErrorCode.BAD_REQUEST,
        f"this replaces the whole state of cluster {ours!r}, and the request {told}: nothing was changed; "
        f"say ?confirm={ours} (varpulis: --into {ours}) if that is meant",
    )


async def _drain(request: AnyRequest) -> None:
    """Read the body away: who still sends would not read our answer."""
    async for _ in request.stream():
        pass


def _opened(body: bytes) -> tuple[BackupInfo, memoryview, int]:
    """What the copy says of itself, its state in a format that is read in parts, and the CRC-32C of that."""
    info, machine = unpack(body)
    if info.problem is not None:
        raise WireError(ErrorCode.BAD_REQUEST, _cannot(info.problem))
    try:
        state = as_newest(machine)
    except ValueError as error:
        raise WireError(ErrorCode.BAD_REQUEST, _cannot(str(error))) from None
    if len(state) > MAX_COPY:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            _cannot(f"its state has {len(state)} bytes, and at most {MAX_COPY} are taken"),
            status=413,
        )
    return info, state, checksum(state)


def _cannot(problem: str) -> str:
    return f"the copy cannot be restored: {problem}. Nothing was changed; `raft snapshot inspect` checks one"


def _check_origin(info: BackupInfo, ours: str, from_cluster: str | None) -> None:
    if info.cluster not in (ours, from_cluster):
        raise WireError(
            ErrorCode.CONFLICT,
            f"the copy is of cluster {info.cluster!r}, and this is cluster {ours!r}: nothing was changed; "
            f"say &from_cluster={info.cluster} (varpulis: --from-cluster {info.cluster}) if that is meant",
        )


async def _restore(context: Context, begin: BeginRestore, state: memoryview, deadline: float) -> Restored:
    commit = CommitRestore(by=begin.by, request_id=begin.key, upload=begin.upload)
    begun = False
    while True:
        try:
            result = await context.ledger.propose(commit, timeout=_left(deadline))
        except WireError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
        else:
            if isinstance(result, Restored):
                return result
            raise WireError(ErrorCode.CONFLICT, f"{begin.key[:80]!r} was used for another request")
        if begun:
            if context.ledger.state.uploads.keys() - {begin.upload}:
                raise WireError(ErrorCode.CONFLICT, TAKEN)
            await asyncio.sleep(BEFORE_ANOTHER_TRY)
        try:
            await context.ledger.propose(begin, timeout=_left(deadline))
            begun = True
            await _send(context, begin, state, deadline)
        except WireError as error:
            if error.code in (ErrorCode.TIMEOUT, ErrorCode.UNAVAILABLE):
                raise _not_in_time(context, begin) from None
            raise


async def _send(context: Context, begin: BeginRestore, state: memoryview, deadline: float) -> None:
    """Propose the parts that are not there, `AT_ONCE` together; less of them when the upload is gone."""
    here = context.ledger.state.parts
    missing = iter([number for number in range(parts_of(len(state))) if number not in here])

    async def some() -> None:
        for number in missing:
            data = bytes(state[number * PART_BYTES : (number + 1) * PART_BYTES])
            part = PutPart(by=begin.by, upload=begin.upload, number=number, data=data)
            await context.ledger.propose(part, timeout=_left(deadline))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
    except* WireError as errors:
        first = errors.exceptions[0]
        if not (isinstance(first, WireError) and first.code == ErrorCode.NOT_FOUND):
            raise first from None


def _not_in_time(context: Context, begin: BeginRestore) -> WireError:
    here, count = len(context.ledger.state.parts), parts_of(begin.size)
    return WireError(
        ErrorCode.UNAVAILABLE,
        f"{here} of {count} parts of the copy were taken in time, and nothing was changed: ask again with "
        "the same Idempotency-Key, it goes on from there, or with a longer wait",
    )


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


HANDLERS = [restore_snapshot]
