"""Tells another program of a change: one POST, until it is taken.

The newest news counts: what is still on its way when another comes is given up. A try has a deadline and is
followed, after a pause that doubles, by the same again under the same id (`Idempotency-Key`, and `id` in the
body), so a receiver that took it and whose answer was lost can tell. A refusal that no repetition changes
(4xx but 408 and 429) ends it. Redirects are not followed.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpcore
import msgspec

from coordinator.log import line

DEADLINE: Final = 5.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
_PASSING: Final = frozenset({408, 429})
_log = logging.getLogger(__name__)


class Webhook:
    """POSTs to one URL.

    Args:
        url: http or https.
        wanted: asked before each try; False gives up (this node leads no longer).

    Attributes:
        ended: posts by result: taken, failed (a try), refused, superseded.
    """

    def __init__(self, url: str, wanted: Callable[[], bool], *, first_pause: float = FIRST_PAUSE) -> None:
        self._url = url
        self._wanted = wanted
        self._first_pause = first_pause
        self._pool = httpcore.AsyncConnectionPool(max_connections=2, keepalive_expiry=5.0)
        self._task: asyncio.Task[None] | None = None
        self.ended: Counter[str] = Counter()

    def tell(self, news_id: str, news: Mapping[str, Any]) -> None:
        """Post `news` from now on; what was on its way is given up."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self.ended["superseded"] += 1
        body = msgspec.json.encode({"id": news_id, **news})
        self._task = asyncio.create_task(self._until_taken(news_id, body), name="webhook")

    async def close(self) -> None:
        """Give up what is on its way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pool.aclose()

    async def _until_taken(self, news_id: str, body: bytes) -> None:
        pause = self._first_pause
        while self._wanted():
            status, why = await self._post(news_id, body)
            if 200 <= status < 300:
                self.ended["taken"] += 1
                return
            if 300 <= status < 500 and status not in _PASSING:
                self.ended["refused"] += 1
                _log.error("%s", line("webhook_refused", id=news_id, reason=why))
                return
            self.ended["failed"] += 1
            _log.warning("%s", line("webhook_failed", id=news_id, reason=why, again_in=pause))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _post(self, news_id: str, body: bytes) -> tuple[int, str]:
        """The status, 0 when there was no answer, and what it means."""
        headers: list[tuple[bytes | str, bytes | str]] = [
            ("content-type", "application/json"),
            ("idempotency-key", news_id),
        ]
        with contextlib.suppress(AttributeError):  # anyio's on uvloop, see api/leader.py
            try:
                async with asyncio.timeout(DEADLINE):
                    answer = await self._pool.request("POST", self._url, headers=headers, content=body)
                return answer.status, f"status {answer.status}"
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                return 0, f"{type(error).__name__} {error}".strip()
            except TimeoutError:
                return 0, f"no answer within {DEADLINE:g} s"
        return 0, "the connection was lost"
