"""Follows the audit trail, which is bounded, and counts what clients' writes have done: of each kind at most
as much as there were keys, and no less than was acknowledged.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from proto_schemas.rest.base import API_BASE
from tests.support.linked import Cluster

_LOOK_EVERY: Final = 1.0
_KINDS: Final = {
    "deploy": ("group_created",),
    "update": ("group_update_started",),
    "teardown": ("group_deleting",),
    "drain": ("drain_started",),
}
"""What is told in the trail of each kind of write that a client makes."""
_EACH: Final = frozenset({"deploy", "update", "teardown"})
"""Kinds of which each acknowledged one is told; a drain of who is drained already is the same drain."""
_BY_CLIENTS: Final = "api"


class Trail:
    """`run` until cancelled, `read` once more; then `complaints`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._newest = 0
        self.by_clients: Counter[str] = Counter()
        self.missed = False

    async def run(self) -> None:
        """Look all the while."""
        while True:
            await self.read()
            await asyncio.sleep(_LOOK_EVERY)

    async def read(self) -> None:
        """Take in what is new, from whichever node answers first."""
        path = f"{API_BASE}/events?since={self._newest}&limit=1000"
        for node in self._cluster.nodes:
            answer = await self._cluster.ask(node, "GET", path)
            if answer is not None and answer.status == 200:
                found = msgspec.json.decode(answer.content)
                self.missed |= not found["complete"]
                for event in found["events"]:
                    self._newest = max(self._newest, event["seq"])
                    self.by_clients[event["what"]] += event["by"].startswith(_BY_CLIENTS)
                return

    def complaints(self, keys: Mapping[str, int], acknowledged: Mapping[str, int]) -> Iterator[str]:
        """What was done more often than it was asked for, or not at all."""
        for kind, events in _KINDS.items():
            done = sum(self.by_clients[event] for event in events)
            if done > keys.get(kind, 0):
                yield f"{kind}: done {done} times under {keys.get(kind, 0)} keys"
            if kind in _EACH and done < acknowledged.get(kind, 0) and not self.missed:
                yield f"{kind}: done {done} times, and acknowledged {acknowledged.get(kind, 0)} times"
