"""How a copy is ended where it should not be: asked of its worker, again until that answered, and given up
where no repetition will help.

A worker that answers an undeploy with a refusal no repetition will change is believed after a few tries: the
copy is given up, with the refusal in the log and the audit trail.
"""

import logging
from typing import Final

from coordinator.controllers.target import BY, DOUBT, UNREACHED, UNREACHED_UNTIL_DISPLACED, Target, why
from coordinator.group_streams import GroupStreams
from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.state.commands import MAX_REASON, ForgetStray, LetGo
from coordinator.state.records import Stray, Worker, WorkerStatus
from coordinator.worker_commands import WorkerCommands
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Undeploy
from transport.errors import ErrorKind, NatsTransportError

LATER: Final = frozenset(
    {ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.RATE_LIMITED, ErrorCode.NOT_LEADER}
)
"""Refusals that may change, also when the peer does not say `retryable`."""

FAILURES_UNTIL_GIVEN_UP: Final = 3
"""After so many failures in a row a final refusal to undeploy is believed."""

_log = logging.getLogger(__name__)


class Endings:
    """The steps. Each raises `WireError` or `NatsTransportError` when it is to be repeated after a pause."""

    def __init__(self, ledger: Ledger, commands: WorkerCommands, streams: GroupStreams | None = None) -> None:
        self._ledger = ledger
        self._commands = commands
        self._streams = streams

    async def remove(
        self, target: Target, worker: Worker | None, pipeline_id: str | None, failures: int = 0
    ) -> None:
        """Undeploy and let go; a worker that cannot be asked is let go at once, or after some tries when only
        its heartbeats come: its copy is remembered, they list it, and the answers to them end it. In a group
        that stays the copy first handles what it was sent: others of its kind may go on. `failures`: how
        often this failed already."""
        group = self._ledger.state.groups.get(target.group)
        drain = group is not None and not group.deleting
        reachable = worker is not None and worker.status is not WorkerStatus.UNHEALTHY
        reason = ""
        if worker is not None and reachable and pipeline_id is not None:
            try:
                reason = await self._end_or_give_up(
                    worker.id, target, pipeline_id, failures, drain=drain, forget=True
                )
            except NatsTransportError as error:
                if error.kind not in UNREACHED or failures + 1 < UNREACHED_UNTIL_DISPLACED:
                    raise
                reachable, reason = False, why(worker.id, error)
        elif worker is not None and worker.incarnation is None and pipeline_id is None:
            reason = f"nobody heard what worker {worker.id} answered to its deploy: {DOUBT}"
        await self._ledger.propose(
            LetGo(
                by=BY,
                group=target.group,
                pipeline=target.pipeline,
                epoch=target.epoch,
                confirmed=reachable,
                reason=reason,
            )
        )
        present = self._ledger.state.groups.get(target.group)
        gone = present is None or (group is not None and present.created_at != group.created_at)
        if group is not None and gone and group.spec.delivery != AT_MOST_ONCE and self._streams is not None:
            await self._streams.remove(target.group, group.created_at)

    async def undeploy(
        self, worker_id: str, target: Target, pipeline_id: str, *, drain: bool = False, forget: bool = False
    ) -> None:
        """End a copy, with `drain` after it has handled what was sent to it until now, with `forget` its
        checkpoints, too; the answer "not found" is as good."""
        message = Undeploy(
            pipeline_id=pipeline_id,
            drain=drain,
            forget=forget,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=f"{target.request_id}.undeploy.{pipeline_id}",
        )
        try:
            await self._commands.undeploy(worker_id, message)
        except WireError as error:
            if error.code not in (ErrorCode.PIPELINE_NOT_FOUND, ErrorCode.NOT_FOUND):
                raise

    async def clear_stray(self, stray: Stray, *, known: bool, failures: int = 0) -> None:
        """End a stray and forget it. On a worker that is not `known` any more one try must do; `failures`:
        how often this failed already."""
        target = Target(stray.group, stray.pipeline, stray.epoch)
        reason = ""
        try:
            reason = await self._end_or_give_up(stray.worker_id, target, stray.pipeline_id, failures)
        except (WireError, NatsTransportError):
            if known:
                raise
        await self._ledger.propose(
            ForgetStray(by=BY, worker_id=stray.worker_id, pipeline_id=stray.pipeline_id, reason=reason)
        )

    async def _end_or_give_up(
        self,
        worker_id: str,
        target: Target,
        pipeline_id: str,
        failures: int,
        *,
        drain: bool = False,
        forget: bool = False,
    ) -> str:
        """`undeploy`; when that is refused for good and failed often enough, why the copy is given up."""
        try:
            await self.undeploy(worker_id, target, pipeline_id, drain=drain, forget=forget)
        except (WireError, NatsTransportError) as error:
            if failures < FAILURES_UNTIL_GIVEN_UP or not _is_final(error):
                raise
            reason = f"worker {worker_id} would not end {pipeline_id}, given up: {error}"[:MAX_REASON]
            _log.warning("%s", line("copy_given_up", worker=worker_id, pipeline=pipeline_id, reason=error))
            return reason
        return ""


def _is_final(error: WireError | NatsTransportError) -> bool:
    """Whether the worker answered, and will answer the same again."""
    if isinstance(error, NatsTransportError):
        return error.kind is ErrorKind.BAD_PAYLOAD
    return not error.retryable and error.code not in LATER
