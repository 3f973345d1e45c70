"""How those who work on one event loop let one another go on.

The loop goes round and gives everybody who is ready one turn. A turn that takes long holds up all others: the
socket is read once in a round, heartbeats go out once in a round. So whoever has worked for more than
`TURN_SECS` lets the others have as much time, up to `LONGEST`, if they have use for it: it looks how long the
rounds take without it, and comes back when `QUIET_ROUNDS` of them took no time. With nobody else at work that
costs a fraction of a millisecond.

Those who work long come back one after another, through one *lane*; or a round would take as long as all of
them together. Nothing is done in the lane but to let others go on, so nobody can block it.
"""

import asyncio
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

TURN_SECS: Final = 0.005
LONGEST: Final = 0.1
QUIET_ROUNDS: Final = 32
QUIET_SECS: Final = 25e-6

_lanes: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = WeakKeyDictionary()


async def come_back() -> None:
    """Before work that may take long: wait for those who let others go on now."""
    async with _lane():
        pass


async def give_way(worked: float) -> None:
    """After `worked` seconds of work, more than `TURN_SECS`: let the others go on."""
    async with _lane():
        now = monotonic()
        until, quiet = now + min(worked, LONGEST), 0
        while quiet < QUIET_ROUNDS and now < until:
            before = now
            await asyncio.sleep(0)
            now = monotonic()
            quiet = quiet + 1 if now - before < QUIET_SECS else 0


def _lane() -> asyncio.Lock:
    return _lanes.setdefault(asyncio.get_running_loop(), asyncio.Lock())
