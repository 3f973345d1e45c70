"""What each command of the wire does; the carrier, the order and the fence are the dispatcher's.

An answer is a message, or bytes that are JSON already (a checkpoint). Refusals are `WireError`s.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from proto_schemas.codec import MAX_PAYLOAD, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.base import Message
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.events import BatchInjected, Inject, InjectBatch, Injected, OutputEvent
from proto_schemas.messages.moves import CheckpointRef, CheckpointRequest, Drain, Drained, Hold, Restore
from transport.turns import TURN_SECS, give_way
from worker import checkpoints, handover, takeover
from worker.cut import SMALL, CutFailed
from worker.membership import Membership
from worker.payload import PayloadError, read_event
from worker.pipeline import KEEPS, Output, Pipeline, State, now_ms
from worker.pipelines import PipelineHost
from worker.store.base import Fenced, StoreDown

MAX_ERROR_TEXTS: Final = 100
"""Errors of a batch that are told in words; all are counted."""
BURST: Final = 256
"""Events of a batch after which other work gets its turn."""

Answer = Message | bytes
Handler = Callable[[Any], Awaitable[Answer]]


class Commands:
    """The handlers, over the pipelines of one worker, which is a member."""

    def __init__(self, host: PipelineHost, member: Membership) -> None:
        self._host = host
        self._member = member
        self.handlers: Mapping[str, Handler] = {
            "deploy": self.deploy,
            "undeploy": self.undeploy,
            "inject": self.inject,
            "inject_batch": self.inject_batch,
            "hold": self.hold,
            "checkpoint": self.checkpoint,
            "restore": self.restore,
            "drain": self.drain,
        }

    async def deploy(self, request: Deploy) -> Deployed:
        pipeline = await self._host.deploy(request, self._member.sent_at(request.heard))
        await self._member.vouch(pipeline.permit)
        if self._host.find(pipeline.id) is None:
            raise WireError(
                ErrorCode.STALE_EPOCH,
                f"pipeline {pipeline.id} was ended while it started: read the state again before you send",
            )
        if pipeline.listed_from is None and request.epoch is not None:
            pipeline.listed_from = self._member.next_heartbeat()
        return Deployed(
            id=pipeline.id,
            name=pipeline.name,
            status=pipeline.state,
            begun=pipeline.begun or None,
            divides=request.hold,
            listed_from=pipeline.listed_from,
        )

    async def undeploy(self, request: Undeploy) -> Ok:
        await self._host.undeploy(request.pipeline_id, drain=request.drain, forget=request.forget)
        return Ok(ok=True)

    async def inject(self, request: Inject) -> Injected:
        pipeline = self._live(request.pipeline_id)
        try:
            outputs = _run(pipeline, {"event_type": request.event_type, "fields": request.fields})
        except PayloadError as error:
            raise WireError(ErrorCode.BAD_REQUEST, str(error)) from None
        await pipeline.deliver(outputs)
        return Injected(ok=True, output_events=_emitted(outputs))

    async def inject_batch(self, request: InjectBatch) -> BatchInjected:
        started = time.perf_counter_ns()
        pipeline = self._live(request.pipeline_id)
        emitted: list[OutputEvent] = []
        errors: list[str] = []
        failed, began = 0, time.monotonic()
        for position, event in enumerate(request.events):
            try:
                outputs = _run(pipeline, event)
            except (PayloadError, WireError) as error:
                failed += 1
                if len(errors) < MAX_ERROR_TEXTS:
                    errors.append(f"events[{position}]: {error}")
                continue
            await pipeline.deliver(outputs)
            emitted += _emitted(outputs)
            if (worked := time.monotonic() - began) > TURN_SECS:
                await give_way(worked)
                began = time.monotonic()
            elif position % BURST == BURST - 1:
                await asyncio.sleep(0)
        return _fitting(
            BatchInjected(
                events_sent=len(request.events) - failed,
                events_failed=failed,
                output_events=emitted,
                errors=errors,
                processing_time_us=(time.perf_counter_ns() - started) // 1000,
            )
        )

    async def hold(self, request: Hold) -> Ok:
        pipeline = self._host.get(request.pipeline_id)
        await handover.hold(pipeline, relayed=request.relayed, back=request.back)
        return Ok(ok=True)

    async def checkpoint(self, request: CheckpointRequest) -> Answer:
        pipeline = self._host.get(request.pipeline_id)
        if request.handover:
            await handover.hand_over(pipeline)
        held = pipeline.held.events() if request.handover else ()
        try:
            if not pipeline.engine.outweighs(SMALL):
                async with pipeline.at_rest() as place:
                    data = checkpoints.take(pipeline.engine, pipeline.name, now_ms(), held, place)
                if len(data) <= checkpoints.INLINE_LIMIT:
                    return data
            saved = await self._host.checkpoints.save(pipeline, held=request.handover)
        except (StoreDown, Fenced, CutFailed, ValueError) as error:
            raise WireError(ErrorCode.UNAVAILABLE, f"checkpoint of {pipeline.id}: {error}") from None
        return CheckpointRef(checkpoint_ref=str(saved))

    async def restore(self, request: Restore) -> Ok:
        pipeline = self._host.get(request.pipeline_id)
        given = sum(each is not None for each in (request.checkpoint, request.checkpoint_ref))
        if given > 1 or (given == 0 and not request.resume):
            raise WireError(
                ErrorCode.BAD_REQUEST, "restore needs exactly one of checkpoint and checkpoint_ref"
            )
        checkpoint = None
        if request.checkpoint_ref is not None:
            checkpoint = await self._host.checkpoints.read(request.checkpoint_ref)
        elif request.checkpoint is not None:
            checkpoint = checkpoints.from_object(request.checkpoint)
        elif request.restore_from is not None and pipeline.state is State.HELD:
            checkpoint = await self._host.checkpoints.recover(pipeline)
        if request.piece is not None:
            if checkpoint is None or request.resume:
                raise WireError(ErrorCode.BAD_REQUEST, "a piece is a checkpoint, without resume")
            take = takeover.take_back if request.only_held else takeover.take_piece
            take(pipeline, request.piece, checkpoint)
        elif request.resume:
            await handover.resume(
                pipeline,
                checkpoint,
                only_held=request.only_held,
                anew=request.anew,
                queue=request.queue,
                lines=request.lines,
            )
            self._host.took_over(pipeline)
        elif checkpoint is not None:
            if pipeline.resumes:
                raise WireError(
                    ErrorCode.CONFLICT,
                    f"pipeline {pipeline.id} is reading its files, and cannot go back in them while it runs: "
                    "deploy it again with this checkpoint",
                )
            pipeline.restore(checkpoint)
        return Ok(ok=True, begun=pipeline.begun or None)

    async def drain(self, request: Drain) -> Drained:
        return Drained(ok=True, pipelines=await self._host.drain())

    def _live(self, pipeline_id: str) -> Pipeline:
        pipeline = self._host.get(pipeline_id)
        if pipeline.state is State.FAILED:
            raise WireError(
                ErrorCode.ENGINE_ERROR, f"pipeline {pipeline.id} failed: {pipeline.reason}: deploy it again"
            )
        if pipeline.state is State.DRAINED:
            raise WireError(
                ErrorCode.UNAVAILABLE, f"pipeline {pipeline.id} is drained: ask where it runs now"
            )
        if pipeline.state in KEEPS:
            raise WireError(ErrorCode.UNAVAILABLE, f"pipeline {pipeline.id} is being moved: ask again")
        if pipeline.feed is not None:
            raise WireError(
                ErrorCode.CONFLICT,
                f"pipeline {pipeline.id} takes its events from its stream alone: publish to its subject "
                f"{self._host.ingress(pipeline)}",
            )
        return pipeline


def _run(pipeline: Pipeline, event: Any) -> list[Output]:
    now = now_ms()
    event_type, fields, ts = read_event(event, now)
    if pipeline.intake is not None:
        pipeline.intake.note(fields)
    outputs = pipeline.process(event_type, fields, ts, now)
    if outputs is None:
        raise WireError(
            ErrorCode.ENGINE_ERROR,
            f"the engine of {pipeline.id} failed on this event; the worker's log has the cause",
        )
    return outputs


def _emitted(outputs: list[Output]) -> list[OutputEvent]:
    return [
        OutputEvent(event_type=event_type, fields=fields)
        for sink_id, event_type, fields, _ in outputs
        if sink_id < 0
    ]


def _fitting(answer: BatchInjected) -> BatchInjected:
    """The answer with as many outputs as one message carries; true counts, a text tells of the cut."""
    size = len(encode(answer))
    if size <= MAX_PAYLOAD:
        return answer
    total = len(answer.output_events)
    kept = total
    while size > MAX_PAYLOAD and kept:
        kept = min(kept - 1, int(kept * 0.9 * MAX_PAYLOAD / size))
        note = f"output_events holds {kept} of {total}, for the size of the answer: send smaller batches"
        answer = BatchInjected(
            events_sent=answer.events_sent,
            events_failed=answer.events_failed,
            output_events=answer.output_events[:kept],
            errors=[*answer.errors[: MAX_ERROR_TEXTS - 1], note],
            processing_time_us=answer.processing_time_us,
        )
        size = len(encode(answer))
    return answer
