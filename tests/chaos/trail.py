"""Follows the audit trail, which is bounded, and counts what users' writes have done: of each kind at most as
much as there were keys.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from proto_schemas.rest import API_BASE
from tests.support.linked import Cluster

_LOOK_EVERY: Final = 1.0
_KINDS: Final = {
    "deploy": ("group_created",),
    "update": ("group_update_started",),
    "teardown": ("group_deleting",),
    "drain": ("drain_started",),
}
"""What is told in the trail of each kind of write that a client makes."""
_BY_CLIENTS: Final = "api"


class Trail:
    """`run` until cancelled, `read` once more; then `complaints`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._newest = 0
        self.events: Counter[str] = Counter()
        self.by_clients: Counter[str] = Counter()
        self.missed = False
        self.last: list[dict[str, Any]] = []

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
                    self.events[event["what"]] += 1
                    if event["by"] == _BY_CLIENTS or event["by"].startswith(_BY_CLIENTS):
                        self.by_clients[event["what"]] += 1
                return

    def complaints(self, keys: Mapping[str, int]) -> Iterator[str]:
        """What was done more often than it was asked for."""
        for kind, events in _KINDS.items():
            done = sum(self.by_clients[event] for event in events)
            if done > keys.get(kind, 0):
                yield f"{kind}: done {done} times under {keys.get(kind, 0)} keys"
