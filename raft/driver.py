"""What moves a core: it wakes for inputs and for time, steps, and gives the frames to the bus.

Inputs (frames, calls) only wake; the step runs when the event loop comes round, so whatever came in meanwhile
shares one tick and one sync. In a step a follower's answers are given to the socket before it applies, and a
leader's appends before its own sync: the followers work while this disk does. News of a commit alone, and
what no commit waits for (`raft.replication`, spare peers), leave up to `NEWS_SECONDS` later: who was told of
the commit may send the next command, whose append says it too. A follower whose caller waits for the news
gets it with the call's answer.

A core that raises is withdrawn: it says why and stays alive.
"""

import asyncio
import logging
from collections.abc import Callable

from raft.bus import Bus
from raft.outbox import Outgoing
from raft.succession import Succession

NEWS_SECONDS = 0.02
"""Longer saves frames, and work of the followers that no commit waits for; shorter lets those lag less: they
cannot be elected meanwhile, nor show what was written last. Beside an election it is short."""
EARLY_SECONDS = 0.0015
"""A timer of the loop is as good as on time."""
LONGEST_REST_SECONDS = 0.25
"""Without a step, though nothing is due: what works in the background is looked after."""

log = logging.getLogger("raft")


class Driver:
    """Drives `core` from the running event loop; `after_step` is called after each step."""

    def __init__(
        self,
        core: Succession,
        bus: Bus,
        inbox: str,
        after_step: Callable[[], None],
    ) -> None:
        self._core, self._bus, self._inbox, self._after_step = core, bus, inbox, after_step
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._due = self._stepped_at = float("-inf")
        self._scheduled = self._will_tell = False
        self._running = True
        self.wake()

    def wake(self) -> None:
        """Step soon; what wakes before then shares the step."""
        if self._running and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._step)

    def put_off(self) -> None:
        """Something came in that calls for no step. While a leader is heard there will be none for a while:
        a timer that is set anew costs less than one that goes off.
        """
        now = self._loop.time()
        if self._timer is None or now - self._stepped_at >= LONGEST_REST_SECONDS:
            return
        if self._core.hears_leader:
            self._timer.cancel()
            self._timer = None
            self._rest(now, self._core.rest())

    def stop(self) -> None:
        """No step any more; frames not yet given to the bus are lost."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        core = self._core
        try:
            self._publish(core.acknowledge())
            core.tick()
            self._publish(core.early())
            self._publish(core.flush(keep_news=True))
            self._after_step()
        except Exception as error:
            self._give_up(error)
            return
        self._stepped_at = now = self._loop.time()
        self._rest(now, core.rest())
        if core.wants_tick:
            self.wake()
        elif not self._will_tell and core.keeps_news:
            self._will_tell = True
            self._loop.call_later(NEWS_SECONDS, self._tell_news)

    def _rest(self, now: float, seconds: float) -> None:
        """Look again after so many seconds; one timer serves many steps, and is set anew when it goes off."""
        self._due = now + seconds
        if self._timer is None or self._due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._due
            self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._due > now + EARLY_SECONDS:
            self._rest(now, self._due - now)
        else:
            self.wake()

    def _tell_news(self) -> None:
        self._will_tell = False
        if self._running:
            self._publish(self._core.news())

    def withdraw(self, cause: str) -> None:
        """Take no part any more; what is in flight hears it."""
        self.stop()
        self._core.withdraw(cause)
        self._core.flush()
        self._after_step()

    def _give_up(self, error: Exception) -> None:
        log.critical("the Raft node cannot go on", exc_info=error)
        self.withdraw(f"this node has withdrawn: {type(error).__name__}: {error}. Start it again")

    def _publish(self, frames: list[Outgoing]) -> None:
        if not frames:
            return
        sent = 0
        try:
            for frame in frames:
                reply = f"{self._inbox}.{frame.token}" if frame.token else ""
                self._bus.send(frame.subject, frame.data, reply=reply)
                sent += 1
            self._bus.push()
        except Exception as error:
            # Whatever keeps a frame from the bus, the frame is lost, and Raft sends again.
            self._core.counters.frames_dropped["not_published"] += len(frames) - sent
            log.debug("%d frames not published: %s", len(frames) - sent, error)
