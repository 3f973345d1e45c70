"""Asks every coordinator, several times a second, what it thinks of itself, and remembers.

- Two who claim the same term break Raft's first promise (5.2), whatever the clients saw.
- A term that goes back, also over a restart, was said before it was on disk (5.1).
- An applied index that goes back within one life was applied before it was committed (5.3).

All of this holds within one generation of members; a newer generation counts from the beginning.
"""

import asyncio
from collections import defaultdict
from typing import Final

from tests.support.linked import Cluster, Standing

_INTERVAL: Final = 0.2


class RaftWatch:
    """`run` until cancelled; then `complaints` and `terms`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._claims: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
        self._terms: dict[str, tuple[int, int]] = {}
        self._applied: dict[tuple[str, int], tuple[int, int]] = {}
        self._steps_back: list[str] = []

    @property
    def terms(self) -> int:
        """How many terms had a leader that was seen."""
        return len(self._claims)

    @property
    def complaints(self) -> list[str]:
        """What breaks Raft's promises."""
        twice = [
            f"term {term} of generation {generation} has two leaders: {', '.join(sorted(nodes))}"
            for (generation, term), nodes in sorted(self._claims.items())
            if len(nodes) > 1
        ]
        return twice + self._steps_back

    async def run(self) -> None:
        """Watch all coordinators."""
        async with asyncio.TaskGroup() as watches:
            for place in range(len(self._cluster.nodes)):
                watches.create_task(self._watch(place))

    async def _watch(self, place: int) -> None:
        while True:
            node = self._cluster.nodes[place]
            life = node.life
            standing = await self._cluster.raft(node)
            if standing is not None and standing.term and life == node.life:  # term 0: its files are not open
                self.note(life, standing)
            await asyncio.sleep(_INTERVAL)

    def note(self, life: int, standing: Standing) -> None:
        """Compare what a coordinator says in one of its lives with what it has said before."""
        node_id = standing.this_node_id
        if standing.leads:
            self._claims[standing.generation, standing.term].add(node_id)
        term = standing.generation, standing.term
        applied = standing.generation, standing.applied_index
        former_term = self._terms.get(node_id, (0, 0))
        former_applied = self._applied.get((node_id, life), (0, 0))
        if term < former_term:
            self._steps_back.append(f"{node_id} went from (generation, term) {former_term} back to {term}")
        if applied < former_applied:
            self._steps_back.append(f"{node_id} went from (generation, index) {former_applied} to {applied}")
        self._terms[node_id] = max(term, former_term)
        self._applied[node_id, life] = max(applied, former_applied)
