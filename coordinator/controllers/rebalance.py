"""Even loads again after a worker has joined, with the fewest moves (`state.rebalance`).

It looks when workers take pipelines that did not before: they joined, or came back, or this node has begun to
lead. It waits until nobody has joined for `SETTLE` seconds and everything that is to run does run, then
starts up to `MOST` moves, and what is left to do after the cooldown. A plan that is not worth it is empty, so
looking costs nothing but time; that time is spent in a thread, on a copy of the dictionaries, because a large
plan takes longer than a leader may be silent.

How a move is carried out is `StartMove`'s part: it commits the intent and gives the id of the migration.
Without one nothing moves by itself, and who asks is told so.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from coordinator.controllers.actions import Actions
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.model import State
from coordinator.state.rebalance import GAIN, TOLERANCE, Move, plan
from coordinator.state.records import Phase
from coordinator.state.strategy import takes_new
from proto_schemas.errors import ErrorCode, WireError

SETTLE: Final = 5.0
"""Seconds without another worker that joins. Longer makes one plan of a slow start, shorter begins sooner."""
MOST: Final = 32
"""Moves that one round starts by itself. More is even sooner, fewer disturbs less at a time."""

StartMove = Callable[[Move], Awaitable[str]]
"""Commits that a move is to be made; the id of its migration. Raises `WireError` when it is refused."""


@dataclass(frozen=True, slots=True)
class Started:
    """`ids`: of the migrations started, for the first of `moves`; `refused`: why the next was not."""

    moves: list[Move]
    ids: list[str]
    refused: WireError | None = None


class Rebalance:
    """The controller; `step` is one pass.

    Args:
        automatic: look by itself.
        cooldown: seconds between two rounds in which something moved.
        clock: monotonic seconds.

    Attributes:
        alone: held by whoever starts moves because he was asked to.
    """

    def __init__(
        self,
        ledger: Ledger,
        table: HeartbeatTable,
        actions: Actions,
        clock: Callable[[], float],
        start_move: StartMove | None,
        *,
        automatic: bool = True,
        cooldown: float = 60.0,
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._actions = actions
        self._clock = clock
        self._start_move = start_move
        self._automatic = automatic
        self._cooldown = cooldown
        self.alone = asyncio.Lock()
        self._known: frozenset[str] = frozenset()
        self._due: float | None = None
        self._not_before = clock()

    def forget(self) -> None:
        """Somebody else leads now."""
        self._known, self._due = frozenset(), None

    def step(self) -> None:
        """Notice who joined; begin a round when it is time."""
        if not self._automatic or self._start_move is None:
            return
        state, now = self._ledger.state, self._clock()
        present = frozenset(worker.id for worker in state.workers.values() if takes_new(worker))
        if present - self._known:
            self._due = now + SETTLE
        self._known = present
        if self._due is None or now < max(self._due, self._not_before) or not _settled(state):
            return
        self._actions.start(("rebalance",), self._round)

    async def plan(self) -> list[Move]:
        """The moves that would be made now."""
        state = self._ledger.state
        copy = State(
            workers=state.workers.copy(),
            groups=state.groups.copy(),
            placements={group: placements.copy() for group, placements in state.placements.items()},
            migrations=state.migrations.copy(),
        )
        return await asyncio.to_thread(plan, copy, self._table.loads(), tolerance=TOLERANCE, gain=GAIN)

    async def start(self, most: int | None = None) -> Started:
        """Plan, and start up to `most` of the moves, until one is refused.

        Raises:
            WireError: `unavailable`, there are moves to make and nothing to make them with; or the first one
                was refused.
        """
        moves = await self.plan()
        if not moves:
            return Started([], [])
        if self._start_move is None:
            raise WireError(
                ErrorCode.UNAVAILABLE,
                f"{len(moves)} pipelines should move, and this version cannot move a pipeline that runs: "
                "ask with ?dry_run=true for the plan",
                retryable=False,
            )
        ids: list[str] = []
        for move in moves[:most]:
            try:
                ids.append(await self._start_move(move))
            except WireError as error:
                if not ids:
                    raise
                return Started(moves, ids, error)
        return Started(moves, ids)

    async def _round(self) -> None:
        started = await self.start(MOST)
        if started.ids:
            self._not_before = self._clock() + self._cooldown
        if len(started.ids) == len(started.moves):
            self._due = None


def _settled(state: State) -> bool:
    """Nothing waits for a place, or is on its way to one."""
    return not state.migrations and not any(
        placement.phase in (Phase.PENDING, Phase.DEPLOYING) for _, _, placement in state.unsettled()
    )
