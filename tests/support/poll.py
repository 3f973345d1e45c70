"""Wait for something to become true, with a deadline, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_INTERVAL = 0.01


async def until(
    predicate: Callable[[], object] | Callable[[], Awaitable[object]],
    *,
    timeout: float = 20.0,
    what: str = "",
) -> None:
    """Return once `predicate()` (plain or async) is true; it is asked every 10 ms.

    Raises:
        AssertionError: it was not true within `timeout` seconds; the text says `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout} s: {what or getattr(predicate, '__name__', predicate)}"
            )
        await asyncio.sleep(_INTERVAL)
