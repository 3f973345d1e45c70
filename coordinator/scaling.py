"""Scaling advice on the leader: a look a second, and news of a change to whoever wants it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger, now_ms
from coordinator.log import line
from coordinator.state.scaling import HOLD, Advice, Advisor, Need, Thresholds, need
from proto_schemas.rest.cluster import ScalingView

EVERY: Final = 1.0
_log = logging.getLogger(__name__)


class Teller(Protocol):
    """What is needed of `webhook.Webhook`."""

    def tell(self, news_id: str, news: dict[str, Any]) -> None: ...


@dataclass(slots=True, kw_only=True)
class Scaling:
    """The advice of this node, while it leads; `leads` says whether.

    A new leader begins anew: it holds until it has looked for a whole window, and then tells of what it
    finds, also when the one before it told the same. Its news carry ids of its own term.
    """

    cluster_id: str
    ledger: Ledger
    table: HeartbeatTable
    limits: Thresholds
    leads: Callable[[], bool]
    teller: Teller | None = None
    clock: Callable[[], int] = now_ms
    advisor: Advisor = field(init=False)
    _told: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.advisor = Advisor(self.limits)

    async def run(self) -> None:
        """A look a second while this node leads, until cancelled."""
        while True:
            self.step()
            await asyncio.sleep(EVERY)

    def step(self) -> None:
        """One look."""
        if not self.leads():
            self.advisor.forget()
            return
        if self.advisor.look(self.need(), self.clock()) and (advice := self.advisor.advice) is not None:
            _log.info(
                "%s", line("scaling_advice", advice=advice.advice, wanted=advice.wanted, why=advice.reason)
            )
            if self.teller is not None:
                self._told += 1
                news_id = f"{self.cluster_id}.{self.ledger.term}.{self._told}"
                self.teller.tell(news_id, {"cluster_id": self.cluster_id, **_news(advice)})

    def need(self) -> Need:
        """What is needed at this moment."""
        workers = self.ledger.state.workers
        heard = {worker: self.table.get(worker) for worker in workers}
        loads = {
            worker: each.load.smooth
            for worker, each in heard.items()
            if each is not None and each.load is not None
        }
        return need(self.ledger.state, loads, self.limits)

    @property
    def current(self) -> Advice | None:
        """The advice; None while this node does not lead."""
        return self.advisor.advice

    def view(self) -> ScalingView:
        """As the API shows it."""
        now, advice = self.need(), self.advisor.advice
        if advice is None:
            why = "this node does not lead, and does not advise: ask without consistency=stale"
            advice = Advice(advice=HOLD, wanted=now.ready, reason=why, since=self.clock())
        return ScalingView(
            **_news(advice),
            workers_ready=now.ready,
            capacity=now.capacity,
            assigned=now.assigned,
            pending=now.pending,
            load=now.load,
        )


def _news(advice: Advice) -> dict[str, Any]:
    return {
        "advice": advice.advice,
        "workers_wanted": advice.wanted,
        "reason": advice.reason,
        "since_ms": advice.since,
    }
