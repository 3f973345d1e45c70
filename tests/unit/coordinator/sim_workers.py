"""Workers as the coordinator's controllers meet them, played: copies with states, lines, and what they hold.

What `worker.handover` promises is kept here in a few lines, so that tests can let anything fail between: an
answer that is lost after the deed, a command that never arrives, a worker that freezes.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.membership import RunningPipeline
from proto_schemas.messages.moves import CheckpointRequest, HandedOver, Hold, Restore
from transport.errors import ErrorKind, NatsTransportError


@dataclass
class Copy:
    """One copy. `memory`: a token of the state it has, which travels with a hand-over to a copy of the same
    program. `fault`: why it failed; `pieces`: what it was given of others, by their ids."""

    id: str
    group: str
    name: str
    epoch: int
    line: str
    state: str
    memory: str
    joined: bool = False
    source: str = ""
    fault: str | None = None
    pieces: dict[str, str] = field(default_factory=dict)

    def listed(self) -> RunningPipeline:
        return RunningPipeline(
            pipeline_id=self.id,
            group=self.group,
            name=self.name,
            epoch=self.epoch,
            queue=int(self.line.rpartition(".")[2] or 0),
            state=self.state,
            reason=self.fault,
        )


class SimWorkers:
    """All workers of a stage, in place of its `FakeWorkers`.

    Attributes:
        frozen: workers that neither hear nor answer.
        trouble: how likely a command is lost, and as likely its answer.
        old: workers that know nothing of moves.
        refusals: by (worker, kind of message), what to answer.
        broken: programs that no worker takes.
    """

    max_payload = 1024 * 1024

    def __init__(self, rng: random.Random | None = None) -> None:
        self.copies: dict[str, dict[str, Copy]] = {}
        self.frozen: set[str] = set()
        self.old: set[str] = set()
        self.trouble = 0.0
        self.refusals: dict[tuple[str, type[msgspec.Struct]], WireError] = {}
        self.broken: set[str] = set()
        self.sent: list[tuple[str, msgspec.Struct]] = []
        self._rng = rng or random.Random(0)
        self._made = 0

    def listed(self, worker: str) -> list[RunningPipeline]:
        return [copy.listed() for copy in self.copies.get(worker, {}).values()]

    def live(self, group: str, name: str) -> list[tuple[str, Copy]]:
        """The copies of a pipeline that handle events, on workers that are not frozen."""
        return [
            (worker, copy)
            for worker, copies in self.copies.items()
            for copy in copies.values()
            if (copy.group, copy.name, copy.state) == (group, name, "running") and worker not in self.frozen
        ]

    def kinds(self) -> list[str]:
        """`kind@worker` of all that was sent."""
        return [f"{type(message).__name__}@{worker}" for worker, message in self.sent]

    async def request_message(
        self, subject: str, message: msgspec.Struct, reply_type: Any, *, timeout: float
    ) -> Any:
        await asyncio.sleep(0)
        worker = subject.split(".")[3]
        self.sent.append((worker, message))
        lost = NatsTransportError(ErrorKind.TIMEOUT, "no answer", subject=subject)
        if worker in self.frozen or self._rng.random() < self.trouble:
            raise lost
        if (worker, type(message)) in self.refusals:
            raise self.refusals[worker, type(message)]
        answer = self._do(worker, message)
        if self._rng.random() < self.trouble:
            raise lost
        return answer

    def _do(self, worker: str, message: Any) -> Any:
        copies = self.copies.setdefault(worker, {})
        if isinstance(message, Deploy):
            return self._deploy(worker, copies, message)
        if not isinstance(message, Undeploy | Hold | CheckpointRequest | Restore):
            return Ok(ok=True)
        copy = copies.get(message.pipeline_id)
        if copy is None:
            raise WireError(ErrorCode.PIPELINE_NOT_FOUND, "not here")
        if isinstance(message, Undeploy):
            del copies[copy.id]
        elif isinstance(message, Hold):
            copy.joined = copy.joined or message.back or copy.state == "held"
            copy.state = "held" if copy.state == "running" else copy.state
        elif isinstance(message, CheckpointRequest):
            copy.state, copy.joined = "handed_over", False
            return HandedOver(v=1, pipeline=copy.memory, source_sha256=copy.source)
        else:
            self._restore(copy, message)
        return Ok(ok=True)

    def _deploy(self, worker: str, copies: dict[str, Copy], message: Deploy) -> Deployed:
        if message.source in self.broken:
            raise WireError(ErrorCode.ENGINE_ERROR, "its connector does not open")
        hold = message.hold and worker not in self.old
        for copy in list(copies.values()):
            if (copy.group, copy.name) == (message.group, message.name):
                if copy.epoch == message.epoch:
                    return Deployed(id=copy.id, name=copy.name, status=copy.state)
                if not hold:
                    del copies[copy.id]
        self._made += 1
        copy_id = f"{message.name}-{worker}-{self._made}"
        copies[copy_id] = Copy(
            id=copy_id,
            group=message.group or "",
            name=message.name,
            epoch=message.epoch or 0,
            line=message.queue or "",
            state="held" if hold else "running",
            memory="" if hold else copy_id,
            joined=not hold,
            source=message.source,
        )
        return Deployed(id=copy_id, name=message.name, status=copies[copy_id].state, divides=hold)

    @staticmethod
    def _restore(copy: Copy, message: Restore) -> None:
        if copy.state == "running":
            copy.line = message.queue or copy.line
            return
        if message.piece is not None:
            copy.pieces[message.piece] = (message.checkpoint or {}).get("pipeline", "")
            return
        if copy.pieces:
            copy.memory = " ".join(sorted(copy.pieces.values()))
        if message.checkpoint is not None and not message.only_held and not message.anew:
            if message.checkpoint["source_sha256"] != copy.source:
                raise WireError(ErrorCode.CONFLICT, "the state is of another program")
            copy.memory = message.checkpoint.get("pipeline", "")
        copy.line = message.queue or copy.line
        copy.state, copy.joined = "running", True
