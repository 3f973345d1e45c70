"""Runs a pipeline on a stream: inputs by position, outputs back into the stream, time from the stream.

**Whatever a copy does follows from what is in the stream**, so that another one, from the same state and
position, does the same:

- Inputs come in the order of the stream. The position is the sequence of the last one, and stands in each
  checkpoint beside the state of that moment.
- The processing time is that at which the server stored the input, and never goes back. Windows that are due
  then close before the input is handled.
- Where no input comes the timer closes what is due by the clock of the worker, which is no such thing: so
  each such *closing* is noted in the stream, before or with what came of it (`worker.delivery.marks`).
  A copy that goes on closes what its forerunner noted, where that noted it, and decides on its own only when
  it has read all there is.
- Outputs are numbered by what they came of. A copy that goes on makes again what was stored already, and
  leaves that out (`replayed`).

That is **exactly once**. With **at least once** there are no marks: what came out after the checkpoint comes
out again, and where the timer had a part in it, it may come out different.

Nothing is held up by storing: while a batch is in flight the next inputs are handled, and what comes out of
them is the next batch. When that is full, nothing more is taken: so a slow stream slows its readers, and
nothing is dropped. A checkpoint is taken at rest, when all that came of the inputs up to it is stored.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proto_schemas.errors import ErrorCode, WireError
from transport.errors import NatsTransportError
from transport.jetstream import JetStream, JetStreamRefused, Outgoing
from transport.turns import TURN_SECS, give_way
from worker.checkpoints import At, Checkpoint
from worker.connectors.base import ConnectorError, OutputDropped, encode_output
from worker.cut import CutFailed
from worker.delivery.counts import Counts
from worker.delivery.marks import MAX_CLOSINGS, Closing, Done, Unreadable, decode
from worker.delivery.outside import Outside
from worker.delivery.reader import Fetched, Reader
from worker.delivery.writer import Fenced, Writer
from worker.payload import PayloadError, parse_event
from worker.pipeline import Output, Pipeline, State, now_ms
from worker.routes import OutputRoutes

BURST: Final = 128
"""Inputs handled in one go, before others have their turn; fewer where they take long."""
BATCH: Final = 250
"""Outputs stored together: measured, larger ones are no faster."""
BATCH_BYTES: Final = 512 * 1024
TICK: Final = 0.1
"""Seconds between looks at the timer where no input comes."""
SETTLE_WAIT: Final = 2.0
"""Seconds in which what was put out must be stored, where somebody waits for it."""
LEARN_WAIT: Final = 5.0
"""Seconds in which the marks of the copy before must be read."""
PAUSE_WAIT: Final = 1.0
ID: Final = "Varpulis-Id"
"""Header of an output: `instance:input:closings:number`, the same however often it is made."""
_ROOM: Final = 1024
"""Bytes of a message for its headers."""

log = logging.getLogger(__name__)


class Unsettled(Exception):
    """What was put out is not stored yet; the text says why."""


class _Put(NamedTuple):
    """One output on its way: into the stream, or, where `sink` is given, through a connector."""

    done: Done
    size: int
    message: Outgoing | None
    sink: Output | None


@dataclass(frozen=True, slots=True)
class Names:
    """What a copy reads and writes: its `stream`; the subjects of its inputs, of its marks, and of what
    leaves the group."""

    stream: str
    inputs: Sequence[str]
    marks: str
    outside: str


class Feed:
    """See the module.

    Attributes:
        position, closings, clock: up to where it has come: the input, closings after it, the time (ms).
        replayed: outputs that were stored by a copy before, and not stored again.
        expired: messages that were removed from the stream before it came to them, of whatever subject.
        fenced: another copy has taken over while this one still ran.
        cut_off: the input that took too long; 0 while none did.
    """

    def __init__(
        self, pipeline: Pipeline, jetstream: JetStream, names: Names, routes: OutputRoutes, *, exact: bool
    ) -> None:
        self._pipeline = pipeline
        self._jetstream = jetstream
        self._names = names
        self._routes = routes
        self._exact = exact
        self._writer = Writer(
            jetstream, names.stream, names.marks if exact else None, pipeline.id, pipeline.epoch
        )
        self._outside = Outside(pipeline)
        self._reader: Reader | None = None
        self._max_data = jetstream.bus.max_payload - _ROOM
        self.position = 0
        self.closings = 0
        self.clock = 0
        self._count = 0
        self._marks_until = 0
        self._stored_before = Done()
        self._noted: deque[Closing] = deque()  # by the copy before
        self._decided: list[Closing] = []  # by this one
        self._outputs: deque[_Put] = deque()
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._stopping = False
        self._left_out: Collection[int] = ()
        self.cut_off = 0
        self.replayed = 0
        self.expired = 0
        self.fenced = False

    # --- from where, and up to where

    def go_from(self, checkpoint: Checkpoint) -> None:
        """Go on from the position of `checkpoint`, whatever becomes of its state."""
        names, marks = self._names, checkpoint.watermarks
        self.position = _count(checkpoint.positions.get(names.stream))
        self._marks_until = _count(checkpoint.positions.get(names.marks))
        self.clock, self.closings = _count(marks.get("clock")), _count(marks.get("closings"))
        self._pipeline.engine.now = self.clock or None

    def leave_out(self, sequences: Collection[int]) -> None:
        """Do not handle these inputs: a copy before was cut off on each."""
        self._left_out = frozenset(sequences)

    def at(self) -> At:
        """Where it is, for a checkpoint that is taken now."""
        positions = {self._names.stream: self.position}
        if self._exact:  # what is noted and not closed yet must be read again
            positions[self._names.marks] = self._marks_until if self._noted else self._writer.sequence
        return At(positions, {"clock": self.clock, "closings": self.closings})

    @property
    def progress(self) -> tuple[int, int]:
        """As long as it stays the same, so does the state."""
        return self.position, self.closings

    @property
    def lag(self) -> int:
        """Inputs that are in the stream and were not handled."""
        return self._reader.lag if self._reader is not None else 0

    @property
    def waiting(self) -> int:
        """Outputs that are not in a batch yet, and the batch that is not stored yet."""
        return len(self._outputs) + (self._storing is not None and not self._storing.done())

    @property
    def counts(self) -> Counts:
        """As of now."""
        writer = self._writer
        return Counts(
            outputs=writer.outputs,
            batches=writer.batches,
            attempts_failed=writer.repeated,
            replayed=self.replayed,
            sent_again=self._outside.sent_again,
            expired=self.expired,
            fenced=self.fenced,
        )

    @property
    def error(self) -> str:
        """Why it does not come on; empty while it does."""
        return self._writer.error or (self._reader.error if self._reader is not None else "")

    # --- begin, pause, stop

    async def begin(self) -> None:
        """Take over from whoever ran, and read on from the position.

        Raises:
            WireError: `stale_epoch`, a newer copy has taken over.
            ConnectorError: the stream does not answer; it may later.
        """
        if self._running is not None and not self._running.done():
            return
        try:
            await self.settle(SETTLE_WAIT)
            await self._look_at_stream()
            if self._exact:
                await self._claim()
        except Fenced as error:
            raise WireError(
                ErrorCode.STALE_EPOCH,
                f"epoch {error.own} is older than epoch {error.seen}, which stores its outputs: "
                "read the state again before you send",
            ) from None
        except (JetStreamRefused, NatsTransportError, Unreadable, Unsettled, TimeoutError) as error:
            cause = str(error) or f"its marks could not be read within {LEARN_WAIT:g} s"
            raise ConnectorError(f"stream {self._names.stream}: {cause}", retryable=True) from None
        self._stopping = False
        self._reader = Reader(self._jetstream, self._names.stream, self._names.inputs, self.position)
        self._close_as_noted()
        self._running = asyncio.create_task(self._run(), name=f"feed {self._pipeline.id}")

    async def pause(self) -> None:
        """Take no more inputs; what came of the last ones is not lost."""
        self._stopping = True
        running, self._running = self._running, None
        reader = self._reader
        if running is not None:
            if reader is not None:
                reader.wake()
            await asyncio.wait({running}, timeout=PAUSE_WAIT)
            running.cancel()
            await asyncio.wait({running}, timeout=PAUSE_WAIT)
        if reader is not None:
            await reader.stop()

    async def stop(self) -> None:
        """End it at once."""
        await self.pause()
        storing, self._storing = self._storing, None
        if storing is not None:
            storing.cancel()
            await asyncio.wait({storing}, timeout=PAUSE_WAIT)

    async def settle(self, timeout: float) -> None:
        """Wait until all that was put out is stored.

        Raises:
            Unsettled: not within `timeout` seconds. Fenced: never.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._begin_store(flush=True)
            storing = self._storing  # another who waits may begin the next one meanwhile
            if storing is None:
                return
            await asyncio.wait({storing}, timeout=max(deadline - time.monotonic(), 0))
            if not storing.done():
                raise Unsettled(f"its outputs are not stored within {timeout:g} s: {self.error or 'slowly'}")

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[At]:
        """Within the block nothing is handled, and all that was put out is stored; where it is.

        Raises:
            CutFailed: it is not stored in time, or never.
        """
        async with self._turn:
            try:
                await self.settle(SETTLE_WAIT)
            except (Unsettled, Fenced) as error:
                raise CutFailed(str(error)) from None
            yield self.at()

    async def _look_at_stream(self) -> None:
        """Whether all that came after the position is there; what is not stands in what it began from."""
        info = await self._jetstream.api(f"STREAM.INFO.{self._names.stream}")
        state = (info or {}).get("state") or {}
        first, last = _count(state.get("first_seq")), _count(state.get("last_seq"))
        if last < self.position:
            self.position = self.closings = self._marks_until = 0
            self._warn("its stream was made anew, and is read from its beginning")
        elif self.position and first > self.position + 1:
            self.expired += first - self.position - 1
            self._warn(f"up to {first - self.position - 1} events were removed from its stream unread")

    def _warn(self, text: str) -> None:
        pipeline = self._pipeline
        log.warning("pipeline=%s %s", pipeline.id, text)
        pipeline.begun = "; ".join(each for each in (pipeline.begun, text) if each)

    async def _claim(self) -> None:
        before = await self._writer.claim()
        self._stored_before = before or Done()
        self._noted.clear()
        if before is None:
            return
        async with asyncio.timeout(LEARN_WAIT):
            reader = Reader(self._jetstream, self._names.stream, [self._names.marks], self._marks_until)
            try:
                while reader.position < self._writer.sequence:
                    for fetched in await reader.take(BURST, TICK):
                        closings = decode(fetched.data).closings
                        self._noted.extend(each for each in closings if each.step > self.progress)
                    if reader.error:
                        raise JetStreamRefused(0, reader.error)
            finally:
                await reader.stop()

    # --- inputs

    async def _run(self) -> None:
        reader, pipeline = self._reader, self._pipeline
        assert reader is not None
        try:
            while not self._is_over():
                burst = await reader.take(BURST, TICK)
                async with self._turn:
                    began = time.monotonic()
                    for fetched in burst:
                        self._take(fetched)
                        if (worked := time.monotonic() - began) > TURN_SECS:
                            await give_way(worked)
                            began = time.monotonic()
                        if self._is_over():
                            break  # the next copy takes the rest
                    if not burst:
                        self._close_by_timer(reader)
                    self._begin_store()
                await asyncio.sleep(0)
                while len(self._outputs) >= BATCH and self._storing is not None and not self._stopping:
                    await asyncio.wait({self._storing}, timeout=TICK)
                    async with self._turn:
                        self._begin_store()
        except Fenced as error:
            self.fenced = True
            log.warning("pipeline=%s stops: %s", pipeline.id, error)
            pipeline.fail(f"it was fenced off: {error}")
        except Exception as error:
            log.exception("pipeline=%s cannot go on; please report this", pipeline.id)
            pipeline.fail(f"{type(error).__name__}: {error}"[:200])

    def _is_over(self) -> bool:
        return self._stopping or self._pipeline.state is State.FAILED

    def _take(self, fetched: Fetched) -> None:
        """Handle one input, all of it."""
        pipeline = self._pipeline
        now = self.clock = max(self.clock, fetched.at)
        self.position, self.closings, self._count = fetched.sequence, 0, 0
        due = pipeline.engine.next_deadline()
        if due is not None and due <= now:
            self._put(pipeline.close_windows(now))
        outputs = self._outputs_of(fetched, now)
        if outputs:
            self._put(outputs)
        if self._noted:
            self._close_as_noted()

    def _outputs_of(self, fetched: Fetched, now: int) -> list[Output] | None:
        pipeline = self._pipeline
        if self._left_out and fetched.sequence in self._left_out:
            pipeline.refused["cut_off"] += 1
            return None
        try:
            event_type, fields, ts = parse_event(fetched.data, fetched.subject, now)
        except PayloadError as error:
            pipeline.refused[error.reason] += 1
            return None
        intake = pipeline.intake
        if intake is not None and intake.owner(fetched.subject, event_type, fields) != intake.number:
            return None
        outputs = pipeline.process(event_type, fields, ts, now)
        if pipeline.torn:
            self.cut_off = fetched.sequence
        return outputs

    def _close_by_timer(self, reader: Reader) -> None:
        """Decide what no input says: that so much time has passed."""
        if self._noted or not reader.caught_up or len(self._decided) >= MAX_CLOSINGS:
            return
        self._stored_before = Done()  # all of it has been made again
        now = max(self.clock, now_ms())
        due = self._pipeline.engine.next_deadline()
        if due is not None and due <= now:
            if self._exact:
                self._decided.append(Closing(self.position, self.closings + 1, now))
            self._close(now)

    def _close_as_noted(self) -> None:
        """Close where the copy before did."""
        while self._noted and self._noted[0].after <= self.position:
            self._close(self._noted.popleft().at)

    def _close(self, now: int) -> None:
        self.clock = max(self.clock, now)
        self.closings += 1
        self._count = 0
        self._put(self._pipeline.close_windows(self.clock))

    # --- outputs

    def _put(self, outputs: Sequence[Output]) -> None:
        name, position, closings = self._pipeline.name, self.position, self.closings
        stored = self._stored_before
        replays = self._exact and (position, closings) <= stored.step
        known = (stored.outputs if (position, closings) == stored.step else 2**63) if replays else 0
        for output in outputs:
            sink_id, event_type, fields, ts = output
            if sink_id >= 0:
                self._outputs.append(_Put(Done(position, closings, self._count), 0, None, output))
                continue
            try:
                data = encode_output(event_type, fields, ts)
            except OutputDropped as error:
                self._pipeline.dropped[error.reason] += 1
                continue
            if len(data) > self._max_data:
                self._pipeline.dropped["too_large"] += 1
                continue
            for subject in self._routes.subjects_of(event_type, fields) or (self._names.outside,):
                self._count += 1
                if self._count <= known:
                    self.replayed += 1
                    continue
                done = Done(position, closings, self._count)
                headers = {ID: f"{name}:{position}:{closings}:{self._count}"}
                self._outputs.append(_Put(done, len(data), Outgoing(subject, data, headers), None))

    def _begin_store(self, *, flush: bool = False) -> None:
        """Store the next batch, when the last one is. Raises `Fenced`."""
        storing = self._storing
        if storing is not None:
            if not storing.done():
                return
            storing.result()
            self._storing = None
        decided = self._decided
        if not self._outputs and not (decided and (flush or len(decided) >= MAX_CLOSINGS)):
            return
        batch: list[_Put] = []
        size = 0
        while self._outputs and len(batch) < BATCH and size < BATCH_BYTES:
            put = self._outputs.popleft()
            batch.append(put)
            size += put.size
        done = batch[-1].done if self._outputs else Done(self.position, self.closings, self._count)
        self._decided = []
        self._storing = asyncio.create_task(
            self._store(batch, done, decided), name=f"store {self._pipeline.id}"
        )
        self._storing.add_done_callback(self._wake)

    def _wake(self, _: "asyncio.Task[None]") -> None:
        if self._reader is not None:
            self._reader.wake()

    async def _store(self, batch: Sequence[_Put], done: Done, closings: list[Closing]) -> None:
        pipeline = self._pipeline
        while not pipeline.may_put_out():
            await asyncio.sleep(TICK)
        outside = [put.sink for put in batch if put.sink is not None]
        if outside:
            await self._outside.send(outside)
        messages = [put.message for put in batch if put.message is not None]
        if messages or self._exact:
            await self._writer.store(messages, done, closings)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
