"""A flow of least cost through a small network: successive shortest paths.

Of all flows that carry as much as can be carried from the source to the sink, the cheapest; integers all
through, so the flow is whole too. Costs may be negative where the network has no circle. Each round finds a
cheapest way through what is left (Bellman and Ford's, with a queue) and fills it; good for some thousand
edges.
"""

from collections import deque
from collections.abc import Hashable

_FAR = 1 << 62


class Network:
    """Nodes are any hashable names; `flow` holds what `fill` sent through each edge, by its number."""

    def __init__(self) -> None:
        self._nodes: dict[Hashable, int] = {}
        self._out: list[list[int]] = []
        self._to: list[int] = []
        self._room: list[int] = []
        self._cost: list[int] = []

    def edge(self, start: Hashable, end: Hashable, room: int, cost: int = 0) -> int:
        """Add an edge that carries up to `room` at `cost` each; its number."""
        number = len(self._to)
        for one, other, free, price in ((start, end, room, cost), (end, start, 0, -cost)):
            self._out[self._node(one)].append(len(self._to))
            self._to.append(self._node(other))
            self._room.append(free)
            self._cost.append(price)
        return number

    def flow(self, edge: int) -> int:
        """What goes through an edge."""
        return self._room[edge ^ 1]

    def fill(self, source: Hashable, sink: Hashable) -> None:
        """Send as much as can be sent, as cheaply as can be."""
        start, end = self._node(source), self._node(sink)
        while (way := self._cheapest(start, end)) is not None:
            amount = min(self._room[edge] for edge in way)
            for edge in way:
                self._room[edge] -= amount
                self._room[edge ^ 1] += amount

    def _node(self, name: Hashable) -> int:
        number = self._nodes.get(name)
        if number is None:
            number = self._nodes[name] = len(self._out)
            self._out.append([])
        return number

    def _cheapest(self, start: int, end: int) -> list[int] | None:
        costs = [_FAR] * len(self._out)
        came: list[int] = [-1] * len(self._out)
        waits = [False] * len(self._out)
        costs[start] = 0
        queue = deque([start])
        while queue:
            node = queue.popleft()
            waits[node] = False
            for edge in self._out[node]:
                other, cost = self._to[edge], costs[node] + self._cost[edge]
                if self._room[edge] and cost < costs[other]:
                    costs[other], came[other] = cost, edge
                    if not waits[other]:
                        waits[other] = True
                        queue.append(other)
        if costs[end] == _FAR:
            return None
        way, node = [], end
        while node != start:
            way.append(came[node])
            node = self._to[came[node] ^ 1]
        return way
