"""When checkpoints are taken, and how a copy begins from one.

**Taken** every `interval` seconds, or as often as the pipeline's deploy says, when something has changed
since the last; on command; on drain. The first one of each copy falls anywhere within its interval, and
each interval varies by a tenth, so that a thousand pipelines do not write at once; `AT_ONCE` are written at
a time. A program without windows has no state, and nothing is taken of it but on command. Only a copy that
runs writes by itself: one that holds has given its state to another, or is about to.

**A store that is down** hurts no event. Checkpoints stop for a pause that doubles up to `LONGEST_PAUSE`;
then one is tried. What grows meanwhile is the **loss window**: the seconds whose events a death of the
worker would cost, 0 when all is safe. It is looked at every `LOOK` seconds, so it is at most that much too
large.

**A copy that begins** in place of one whose worker is dead claims the checkpoints first and then takes the
newest whole one of the same program. A store that does not answer is asked again until it has been silent
for `wait` seconds, for this copy or others; then the copy begins without state, and says so, or, where
`required`, its deploy is answered with a refusal that may pass. Nothing waits for ever.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from proto_schemas.errors import ErrorCode, WireError
from worker import checkpoints
from worker.checkpoints import Checkpoint
from worker.cut import CutFailed, cut
from worker.pipeline import Pipeline, State, now_ms
from worker.store.archive import Archive
from worker.store.base import Damaged, Fenced, Manifest, Ref, Stored, StoreDown

LOOK: Final = 0.5
"""Seconds between looks at what has changed and what is due."""
AT_ONCE: Final = 4
JITTER: Final = 0.1
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
ASK_AGAIN: Final = (0.1, 1.0)
"""Seconds between questions to a store that does not answer: the first and the longest."""

MAX_TEXT: Final = 300
"""Characters of what a copy says about its beginning; it is replicated."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Checkpointer:
    """Takes checkpoints of the copies that `pipelines` tells, and gives them back.

    Args:
        interval: seconds between two checkpoints of a pipeline that does not say; 0: none by itself.
        wait: seconds a copy waits for a store that does not answer, before it begins without.
        required: do not begin without then.

    Attributes:
        counts: checkpoints by outcome: `written`, `failed`, `fenced`.
        restored, empty: copies that began from a checkpoint, and that should have and found none.
        duration, longest_stall: seconds, of all that were written and of the worst cut.
        error: why the store is down; empty while it is not.
    """

    def __init__(
        self,
        archive: Archive,
        pipelines: Callable[[], list[Pipeline]],
        *,
        interval: float,
        wait: float,
        required: bool,
    ) -> None:
        self.archive = archive
        self._pipelines = pipelines
        self._interval = interval
        self._wait = wait
        self._required = required
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._failures = 0
        self._paused_until = 0.0
        self._down_since: float | None = None
        self.counts: Counter[str] = Counter()
        self.restored = 0
        self.empty = 0
        self.duration = 0.0
        self.longest_stall = 0.0
        self.error = ""

    # -- taking

    async def run(self) -> None:
        """Take checkpoints by itself until cancelled."""
        at_work: dict[Pipeline, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(LOOK)
                now = time.monotonic()
                at_work = {pipeline: task for pipeline, task in at_work.items() if not task.done()}
                for pipeline in self._pipelines():
                    if self._is_due(pipeline, now) and pipeline not in at_work:
                        at_work[pipeline] = tasks.create_task(self._try(pipeline))
                    if self._failures and at_work:
                        break  # one tries whether the store is there again

    def _is_due(self, pipeline: Pipeline, now: float) -> bool:
        safety, interval = pipeline.safety, self._interval_of(pipeline)
        if not pipeline.is_unsaved(now):
            if safety.due is not None and safety.due <= now:
                safety.due = None  # when many idle pipelines wake at once, they do not write at once
            return False
        if not interval or safety.fenced or pipeline.state is not State.RUNNING:
            return False
        if pipeline.connectors.crowded:
            return self._paused_until <= now
        if safety.due is None:
            safety.due = now + random.random() * interval
        return safety.due <= now and self._paused_until <= now

    async def _try(self, pipeline: Pipeline) -> None:
        try:
            with contextlib.suppress(StoreDown, Fenced, CutFailed, ValueError):  # counted and logged
                await self.save(pipeline)
        except Exception:  # a fault of ours costs a checkpoint, and no event
            log.exception("pipeline=%s checkpoint not taken; please report this", pipeline.id)
        interval = self._interval_of(pipeline)
        pipeline.safety.due = time.monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER)

    def takes_by_itself(self, pipeline: Pipeline) -> bool:
        """Whether checkpoints are taken of the pipeline without being asked for."""
        return pipeline.keeps and self._interval_of(pipeline) > 0

    def _interval_of(self, pipeline: Pipeline) -> float:
        own = pipeline.checkpoint_secs
        return own if own is not None else self._interval

    async def save(self, pipeline: Pipeline, *, held: bool = False) -> Ref:
        """Take a checkpoint now, with what the copy holds if `held`; it lies safely when this returns.

        Raises:
            StoreDown, Fenced, CutFailed; ValueError: it is too large.
        """
        async with self._slots:
            began, outcome = time.monotonic(), "failed"
            try:
                stored = await self._write(pipeline, held=held)
                outcome = "written"
            except StoreDown as error:
                self._is_down(error)
                raise
            except Fenced as error:
                outcome = "fenced"
                if not pipeline.safety.fenced:
                    log.warning("pipeline=%s takes no more checkpoints: %s", pipeline.id, error)
                pipeline.safety.fenced = True
                raise
            except (CutFailed, ValueError) as error:
                log.error("pipeline=%s checkpoint not taken: %s", pipeline.id, error)
                raise
            finally:
                self.counts[outcome] += 1
            self.duration += time.monotonic() - began
            self._is_up()
            return stored

    async def _write(self, pipeline: Pipeline, *, held: bool) -> Ref:
        events = pipeline.held.events if held else tuple
        owner = pipeline.owner if pipeline.has_run else pipeline.aside
        pipeline.saved_aside = pipeline.saved_aside or not pipeline.has_run
        async with contextlib.AsyncExitStack() as held_open:
            async with pipeline.at_rest() as place:
                making = cut(pipeline.engine, pipeline.name, now_ms, events, place)
                taken = await held_open.enter_async_context(making)
                progress, at, taken_at = pipeline.progress, time.monotonic(), now_ms()
                handled = pipeline.connectors.handled()
            self.longest_stall = max(self.longest_stall, taken.stall)
            stored = await self.archive.write(
                owner,
                taken.pieces(),
                taken_at=taken_at,
                source_sha256=pipeline.program.source_sha256,
            )
        pipeline.safety.keep(progress, at)
        pipeline.safety.size = stored.size
        if pipeline.has_run:
            await pipeline.connectors.cover(handled)
        return Ref(owner.place, stored.name)

    def _is_down(self, error: StoreDown) -> None:
        if not self._failures:
            log.error("checkpoints cannot be written: %s; events go on, unsaved", error)
        self._notice(error)
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 16), LONGEST_PAUSE)
        self._failures += 1
        self._paused_until = time.monotonic() + pause * random.uniform(0.5, 1.0)

    def _is_up(self) -> None:
        if self._failures:
            log.warning("checkpoints are written again to %s", self.archive.name)
        self._failures, self._paused_until = 0, 0.0
        self._down_since, self.error = None, ""

    def _notice(self, error: StoreDown) -> None:
        self.error = str(error)
        self._down_since = self._down_since or time.monotonic()

    def age(self) -> float:
        """The largest loss window of all that runs, in seconds."""
        now = time.monotonic()
        return max((pipeline.loss_window(now) for pipeline in self._pipelines()), default=0.0)

    def health(self) -> dict[str, Any]:
        """What `/health` shows of it."""
        return {
            "store": self.archive.name,
            "error": self.error or None,
            "loss_window_secs": math.ceil(self.age() * 10) / 10,
            "written": self.counts["written"],
            "failed": self.counts["failed"],
        }

    # -- giving back

    async def read(self, ref: str) -> Checkpoint:
        """The checkpoint that a command refers to.

        Raises:
            WireError: `bad_request` (no reference, or damaged), `not_found`, `unavailable`.
        """
        try:
            return await self.archive.one(Ref.read(ref), checkpoints.unpacked)
        except ValueError as error:
            raise WireError(ErrorCode.BAD_REQUEST, str(error)) from None
        except LookupError:
            raise WireError(
                ErrorCode.NOT_FOUND,
                f"checkpoint {ref} is not on this worker: "
                "restore it where it was taken, or send the checkpoint itself",
            ) from None
        except Damaged as error:
            text = f"checkpoint {ref} is damaged ({error}): take another one"
            raise WireError(ErrorCode.BAD_REQUEST, text) from None
        except StoreDown as error:
            raise WireError(ErrorCode.UNAVAILABLE, f"checkpoint {ref}: {error}") from None

    async def recover(self, pipeline: Pipeline) -> Checkpoint | None:
        """Claim the checkpoints of a copy that is about to begin; the newest whole one of its program.

        `pipeline.begun` says afterwards, for people, what it begins from; nothing when there was never
        another copy, or no state to begin from.

        Raises:
            WireError: `stale_epoch`: a newer copy has begun; `timeout`: see `required`.
        """
        if not pipeline.keeps:
            return None
        deadline = (self._down_since or time.monotonic()) + self._wait
        try:
            before = await self._patiently(deadline, partial(self._claim, pipeline, deadline))
            if pipeline.feed is not None:
                pipeline.feed.leave_out(before.left_out)
            found = await self._patiently(deadline, partial(self._newest, pipeline, before))
        except Fenced as error:
            raise WireError(
                ErrorCode.STALE_EPOCH,
                f"epoch {error.own} is older than epoch {error.seen}, to which its checkpoints belong: "
                "read the state again before you send",
            ) from None
        except StoreDown as error:
            if self._required:
                text = f"it waits for its checkpoint: {error}"
                raise WireError(ErrorCode.TIMEOUT, text, retryable=True) from None
            self._says(pipeline, f"began without state: {error}"[:MAX_TEXT])
            self.empty += 1
            return None
        if found is not None:
            stored, checkpoint = found
            pipeline.safety.keep(pipeline.progress, time.monotonic())
            age = max(now_ms() - stored.taken_at, 0) / 1000
            self._says(pipeline, _went_on(pipeline, checkpoint, age))
            self.restored += 1
            return checkpoint
        if before.epoch:
            self._says(pipeline, _nothing(before, pipeline))
            self.empty += 1
        return None

    async def last_word(self, pipeline: Pipeline) -> None:
        """Of a copy that failed: what spares the next one the events that this one failed on. That is its
        state, where it is whole; else that the input on which it was cut off is left out. What does not work
        is logged, no more."""
        try:
            if not pipeline.torn:
                await self.save(pipeline)
            elif pipeline.feed is not None and pipeline.feed.cut_off:
                await self.archive.leave_out(pipeline.owner, pipeline.feed.cut_off)
        except (StoreDown, Fenced, CutFailed, ValueError) as error:
            log.error("pipeline=%s its last word is lost: %s", pipeline.id, error)

    async def _claim(self, pipeline: Pipeline, deadline: float) -> Manifest:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), ASK_AGAIN[0])):
                return await self.archive.claim(pipeline.owner)
        except TimeoutError:
            raise StoreDown(f"{self.archive.name} does not answer: is it there?") from None

    async def _newest(self, pipeline: Pipeline, before: Manifest) -> tuple[Stored, Checkpoint] | None:
        async def accept(chunks: AsyncIterator[bytes]) -> Checkpoint:
            checkpoint = await checkpoints.unpacked(chunks)
            if pipeline.feed is not None and checkpoint.source_sha256 != pipeline.program.source_sha256:
                pipeline.feed.go_from(checkpoint)
                return checkpoint
            try:
                await asyncio.to_thread(pipeline.restore, checkpoint)
            except WireError as error:
                raise Damaged(str(error)) from None
            return checkpoint

        if not _is_of(before, pipeline) and pipeline.feed is None:
            return None
        return await self.archive.newest(pipeline.owner.place, before, accept)

    async def _patiently(self, deadline: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `ask` gives, asked until the deadline (monotonic) while the store is down."""
        pause, longest = ASK_AGAIN
        while True:
            try:
                answer = await ask()
                self._down_since, self.error = None, ""
                return answer
            except StoreDown as error:
                self._notice(error)
                if time.monotonic() + pause >= deadline:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, longest)

    def _says(self, pipeline: Pipeline, text: str) -> None:
        pipeline.begun = text
        log.warning("pipeline=%s epoch=%d %s", pipeline.id, pipeline.epoch, text)

    async def forget(self, pipeline: Pipeline, *, all_of_it: bool) -> None:
        """Remove what a copy that is gone wrote before it ran, and, of a pipeline that is gone for good,
        `all_of_it`; a store that is down keeps them."""
        try:
            if pipeline.saved_aside:
                await self.archive.forget(pipeline.aside)
            if all_of_it and pipeline.keeps:
                await self.archive.forget(pipeline.owner)
        except StoreDown as error:
            log.warning("pipeline=%s its checkpoints are left behind: %s", pipeline.id, error)


def _is_of(manifest: Manifest, pipeline: Pipeline) -> bool:
    """The newest checkpoint there is of the pipeline's program."""
    found = manifest.checkpoints
    return bool(found) and found[0].source_sha256 == pipeline.program.source_sha256


def _went_on(pipeline: Pipeline, checkpoint: Checkpoint, age: float) -> str:
    if pipeline.feed is None:
        return f"went on from a checkpoint {age:.1f} s old; what came after it is lost"
    if checkpoint.source_sha256 != pipeline.program.source_sha256:
        return (
            f"began without state where a checkpoint of another program, {age:.1f} s old, was in its stream"
        )
    return f"went on from a checkpoint {age:.1f} s old, and read what came after it again"


def _nothing(manifest: Manifest, pipeline: Pipeline) -> str:
    if pipeline.feed is not None:
        return "began with its stream, and without state: there is no checkpoint that can be read"
    if not manifest.checkpoints:
        return "began without state: no checkpoint had been taken"
    if not _is_of(manifest, pipeline):
        return "began without state: its last checkpoint is of another program"
    return "began without state: none of its checkpoints can be read"
