"""Which pipelines should move so that every worker carries about its part, with the fewest moves.

A worker's part is what it would hold if all had the same use of their places. It is in **balance** while it
holds no more than that part and `tolerance` of it, and no less than it less that, both rounded in its favour,
so that no worker is out of balance for a fraction of a pipeline. A plan is better than another one by, in
this order:

1. fewer pipelines **misplaced**: where a hard constraint forbids it, beside another instance of the same
   pipeline, or above a worker's limit;
2. fewer pipelines above or below balance, over all workers;
3. fewer moves.

What does not move: a pipeline that does not run, one that stands where it was wished for, one on a worker
that is not ready or of another program (it cannot hand over). No move goes to a worker that meets fewer soft
constraints than the present one, to one that takes nothing new, or to one measured to be busy (`HOT`), how
few pipelines it may hold. And nothing moves at all for less than `gain`: how much the highest load falls, or
the lowest rises, as a part of the mean load.

A greedy pass finds a plan in about n log n. Each misplaced pipeline must move, each one above and each one
missing below balance takes a move: a plan with no more moves than the largest of these three numbers, and
nothing left over, is the best there is. Where constraints keep the greedy pass from that, and the problem is
small (`EXACT`), `flow` finds the best plan.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import ceil, floor
from typing import Final, Literal, NamedTuple

from coordinator.state.constraints import Wants
from coordinator.state.flow import Network
from coordinator.state.model import State
from coordinator.state.records import Phase, Worker
from coordinator.state.room import twins_of
from coordinator.state.strategy import takes_new

TOLERANCE: Final = 0.2
"""Of a worker's part. Smaller keeps loads nearer together for more moves."""
GAIN: Final = 0.25
"""Of the mean load. Larger moves less for little."""
HOT: Final = 0.9
"""Measured load from which a worker gets nothing more."""
EXACT: Final = 3_000
"""Kinds times workers up to which the best plan is looked for when the greedy one may not be."""
_EDGE: Final = 1e-9


class Move(NamedTuple):
    """One pipeline that should go elsewhere; `epoch`: of the copy that is meant."""

    group: str
    pipeline: str
    epoch: int
    from_worker: str
    to_worker: str


class Kind(NamedTuple):
    """Pipelines that may go to the same workers; `twins`: of whom no two should be together."""

    targets: frozenset[str]
    twins: tuple[str, str] | None


class Item(NamedTuple):
    """One pipeline that may move."""

    group: str
    pipeline: str
    epoch: int
    worker: str
    kind: Kind
    fits: bool


@dataclass
class Board:
    """Workers with what they hold, while a plan is made. `counts`: all pipelines; `twins`: instances there by
    (pipeline, worker); `low`, `high`: of balance."""

    limits: dict[str, int]
    counts: dict[str, int]
    low: dict[str, int] = field(default_factory=dict)
    high: dict[str, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    twins: dict[tuple[tuple[str, str], str], int] = field(default_factory=dict)

    def load(self, worker: str) -> float:
        return self.counts[worker] / self.limits[worker]

    def apart(self, kind: Kind, worker: str) -> bool:
        return kind.twins is None or not self.twins.get((kind.twins, worker), 0)

    def shift(self, item: Item, worker: str) -> None:
        """Put an item elsewhere."""
        self.counts[item.worker] -= 1
        self.counts[worker] += 1
        if item.kind.twins is not None:
            self.twins[item.kind.twins, item.worker] -= 1
            self.twins[item.kind.twins, worker] = self.twins.get((item.kind.twins, worker), 0) + 1


def plan(
    state: State,
    measured: Mapping[str, float],
    *,
    tolerance: float = TOLERANCE,
    gain: float = GAIN,
    exact: int = EXACT,
) -> list[Move]:
    """The moves to make, those first for which there is room now; empty when it is not worth it.

    Args:
        measured: damped load of workers, 0 to 1, by id.
        tolerance: of each worker's part, from 0.
        gain: of the mean load.
    """
    board = survey(state, measured, tolerance)
    loads = [board.load(worker) for worker in board.limits]
    misplaced = _misplaced(board)
    wanted = max(misplaced, _above(board), _below(board))
    if not wanted:
        return []
    moves = _Greedy(board).run()
    if (len(moves) > wanted or _misplaced(board) or _above(board) or _below(board)) and (
        len({item.kind for item in board.items}) * len(board.limits) <= exact
    ):
        board = survey(state, measured, tolerance)
        moves = _exact(board)
    after = [board.load(worker) for worker in board.limits]
    won = max(max(loads) - max(after), min(after) - min(loads))
    mean = sum(board.counts.values()) / sum(board.limits.values())
    if _misplaced(board) >= misplaced and won < gain * mean - _EDGE:
        return []
    free = {worker: board.limits[worker] - state.slots_taken(worker) for worker in board.limits}
    return sorted(moves, key=lambda move: (free[move.to_worker] <= 0, move.group, move.pipeline))


def survey(state: State, measured: Mapping[str, float], tolerance: float) -> Board:
    """The workers that take part, and what may move between them."""
    members = {
        worker.id: worker
        for worker in state.workers.values()
        if takes_new(worker) and worker.incarnation is not None and worker.max_pipelines
    }
    board = Board(
        {name: worker.max_pipelines for name, worker in members.items()},
        {name: state.slots_taken(name) for name in members},
    )
    moving = {(move.group, move.pipeline): move.to_worker for move in state.migrations.values()}
    for move in state.migrations.values():
        if move.from_worker in members and move.to_worker != move.from_worker:
            board.counts[move.from_worker] -= 1
    places, total = sum(board.limits.values()), sum(board.counts.values())
    for name, limit in board.limits.items():
        whole, part = total * limit, total * limit / places
        board.high[name] = min(limit, max(-(-whole // places), floor(part * (1 + tolerance) + _EDGE)))
        board.low[name] = max(0, min(limit, whole // places, ceil(part * (1 - tolerance) - _EDGE)))
    targets = {name: worker for name, worker in members.items() if measured.get(name, 0.0) < HOT}
    for name in members.keys() - targets.keys():
        board.low[name] = 0
    known: dict[tuple[bytes, int], frozenset[str]] = {}
    for group, pipeline, placement in state.each_placement():
        to_worker = moving.get((group, pipeline))
        worker = members.get(to_worker or placement.worker_id or "")
        if worker is None:
            continue
        twins = twins_of(state, group, pipeline)
        if twins is not None:
            where = ((group, twins), worker.id)
            board.twins[where] = board.twins.get(where, 0) + 1
        if to_worker is not None or placement.phase is not Phase.RUNNING or not placement.queue:
            continue
        wants = Wants.of(state.groups[group], pipeline)
        fits = wants.fits(worker)
        if fits and wants.affinity == worker.id:
            continue
        kind = Kind(_targets(wants, worker, fits, targets, known), (group, twins) if twins else None)
        board.items.append(Item(group, pipeline, placement.epoch, worker.id, kind, fits))
    return board


def _targets(
    wants: Wants,
    present: Worker,
    fits: bool,
    targets: Mapping[str, Worker],
    known: dict[tuple[bytes, int], frozenset[str]],
) -> frozenset[str]:
    penalty = wants.penalty(present) if fits else -1
    found = known.get((wants.signature, penalty))
    if found is None:
        found = known[wants.signature, penalty] = frozenset(
            name
            for name, worker in targets.items()
            if wants.fits(worker) and (penalty < 0 or wants.penalty(worker) <= penalty)
        )
    return found


def _misplaced(board: Board) -> int:
    return (
        sum(not item.fits for item in board.items)
        + sum(count - 1 for count in board.twins.values() if count > 1)
        + sum(max(0, board.counts[name] - limit) for name, limit in board.limits.items())
    )


def _above(board: Board) -> int:
    return sum(max(0, board.counts[name] - high) for name, high in board.high.items())


def _below(board: Board) -> int:
    return sum(max(0, low - board.counts[name]) for name, low in board.low.items())


# -- the greedy pass ----------------------------------------------------------------------------------------


class _Ladder:
    """The workers, least loaded first, while counts change."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._heap = [(board.load(name), name) for name in sorted(board.limits)]
        self._heap.sort()

    def target(self, item: Item, bounds: Mapping[str, int]) -> str | None:
        """The least loaded worker below its bound that may take the item, with no twin there."""
        board, seen, found = self._board, [], None
        while self._heap and found is None:
            load, name = heappop(self._heap)
            if load != board.load(name):
                continue
            seen.append((load, name))
            if (
                name != item.worker
                and board.counts[name] < bounds[name]
                and name in item.kind.targets
                and board.apart(item.kind, name)
            ):
                found = name
        for entry in seen:
            heappush(self._heap, entry)
        return found

    def changed(self, *names: str) -> None:
        for name in names:
            heappush(self._heap, (self._board.load(name), name))


class _Greedy:
    """The moves, made one by one, none taken back."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ladder = _Ladder(board)
        self._stuck: set[tuple[Kind, str]] = set()
        self.moves: list[Move] = []

    def run(self) -> list[Move]:
        """What is misplaced; what is above balance; then from where there is most to where some lacks."""
        board = self._board
        held = self._put_right()
        self._stuck.clear()
        missing = _below(board)
        for name in sorted(held, key=lambda name: -board.load(name)):
            while board.counts[name] > board.high[name] and held[name]:
                item = held[name].pop()
                if missing and self._move(item, "low"):
                    missing -= 1
                else:
                    self._move(item, "high")
        givers = [(-board.load(name), name) for name in held]
        heapify(givers)
        while givers and missing:
            _, name = heappop(givers)
            if board.counts[name] > board.low[name] and held[name]:
                missing -= self._move(held[name].pop(), "low")
                heappush(givers, (-board.load(name), name))
        return self.moves

    def _put_right(self) -> dict[str, list[Item]]:
        """Move what is misplaced; the items that stayed, by worker."""
        board, held = self._board, dict[str, list[Item]]()
        for place, item in enumerate(board.items):
            beside = item.kind.twins is not None and board.twins[item.kind.twins, item.worker] > 1
            if (beside or not item.fits) and (self._move(item, "high") or self._move(item, "limits")):
                board.items[place] = item._replace(fits=True)
            else:
                held.setdefault(item.worker, []).append(item)
        for name, items in held.items():
            while board.counts[name] > board.limits[name] and items and self._move(items[-1], "limits"):
                items.pop()
        return held

    def _move(self, item: Item, bound: Literal["low", "high", "limits"]) -> bool:
        """Move an item to where that bound leaves room for it."""
        if (item.kind, bound) in self._stuck:
            return False
        worker = self._ladder.target(item, getattr(self._board, bound))
        if worker is None:
            if item.kind.twins is None:
                self._stuck.add((item.kind, bound))
            return False
        self._board.shift(item, worker)
        self._ladder.changed(item.worker, worker)
        self.moves.append(Move(item.group, item.pipeline, item.epoch, item.worker, worker))
        return True


# -- the best plan ------------------------------------------------------------------------------------------


def _exact(board: Board) -> list[Move]:
    """The best plan, as a flow of pipelines to workers; changes the board as its moves would.

    From the source to (kind, present worker) go the items of that kind there. From here they stay, or go for
    the price of a move over the kind's hub to any of its targets. The instances of a pipeline pass a gate at
    each worker, the first one free. At last each worker takes as many as are below balance gladly, up to the
    upper end of it for nothing, and more for a price.
    """
    network, groups, fixed = Network(), dict[tuple[Kind, str, bool], list[Item]](), dict(board.counts)
    twins = dict(board.twins)
    for item in board.items:
        groups.setdefault((item.kind, item.worker, item.fits), []).append(item)
        fixed[item.worker] -= 1
        if item.kind.twins is not None:
            twins[item.kind.twins, item.worker] -= 1
    out_of_balance = len(board.items) + 1
    misplaced = out_of_balance * (2 * len(board.items) + sum(board.low.values()) + 1)
    gates: set[tuple[tuple[str, str], str]] = set()

    def door(kind: Kind, worker: str) -> Hashable:
        if kind.twins is None:
            return worker
        gate = (kind.twins, worker)
        if gate not in gates:
            gates.add(gate)
            network.edge(gate, worker, max(0, 1 - twins.get(gate, 0)))
            network.edge(gate, worker, len(board.items), misplaced)
        return gate

    stays, comes = {}, {}
    for key, items in groups.items():
        kind, worker, fits = key
        network.edge("source", key, len(items))
        stays[key] = network.edge(key, door(kind, worker), len(items), 0 if fits else misplaced)
        network.edge(key, kind, len(items), 1)
    for kind in {kind for kind, _, _ in groups}:
        for worker in sorted(kind.targets):
            comes[kind, worker] = network.edge(kind, door(kind, worker), len(board.items))
    for worker, limit in board.limits.items():
        taken, below = fixed[worker], 0
        for end, cost in (
            (board.low[worker], -out_of_balance),
            (board.high[worker], 0),
            (limit, out_of_balance),
            (limit + len(board.items), misplaced + out_of_balance),
        ):
            room = max(0, end - max(taken, below))
            network.edge(worker, "sink", room, cost)
            below = max(end, below)
    network.fill("source", "sink")
    return _moves_of(board, network, groups, stays, comes)


def _moves_of(
    board: Board,
    network: Network,
    groups: dict[tuple[Kind, str, bool], list[Item]],
    stays: dict[tuple[Kind, str, bool], int],
    comes: dict[tuple[Kind, str], int],
) -> list[Move]:
    """Who goes where: the leaving ones of a kind are alike, so any of them to any place where one comes."""
    arriving: dict[Kind, list[str]] = {}
    for (kind, worker), edge in comes.items():
        arriving.setdefault(kind, []).extend([worker] * network.flow(edge))
    moves, after = [], []
    for key, items in groups.items():
        staying = network.flow(stays[key])
        after += items[:staying]
        for item in items[staying:]:
            places = arriving[item.kind]
            worker = places.pop(next((at for at, name in enumerate(places) if name != item.worker), 0))
            after.append(item._replace(fits=True))
            if worker != item.worker:
                board.shift(item, worker)
                moves.append(Move(item.group, item.pipeline, item.epoch, item.worker, worker))
    board.items = after
    return moves
