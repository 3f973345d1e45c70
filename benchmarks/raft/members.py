"""Members changed under load, at a small state and at a large one: newcomers replace followers.

Callers on the leader and on a follower that stays propose without a pause and retry as `coordinator.ledger`
does. The state is the coordinators' own, of `megabytes` on each node, newcomers included, before it starts. A
change is told to the leader, and lasts until its new generation has committed something. A gap is the time
between two commits of one process's callers that touches it. `most_tries` is how often one call was made at
most; `standstills` says where the loops stood still, and on what (`benchmarks.raft.pulse`).
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.raft import ours
from benchmarks.raft.compaction import told
from benchmarks.raft.figures import at_most
from benchmarks.raft.pulse import Standstill
from benchmarks.raft.transfer import Span, longest_gaps

CLIENTS: Final = 4
PAUSE_SECONDS: Final = 1.5
AFTERWARDS_SECONDS: Final = 0.5
"""How long after it was told to be over a change still counts as the cause of a gap."""
LONGEST_SECONDS: Final = 6.0
"""Of load for each change; one that takes longer on average fails the measurement."""
CHANGE_SECONDS: Final = 20.0
SMALL_MEGABYTES: Final = 2
TARGET_SECONDS: Final = 1.0


async def measure(*, changes: int, megabytes: int) -> dict[str, Any]:
    """Gaps in ms around changes, retries, and standstills; at a small state, and at `megabytes`."""
    small = await _measure(changes, SMALL_MEGABYTES)
    large = await _measure(changes, megabytes)
    longest = max(large["longest_gap_ms"])
    return {
        "changes": changes,
        "states": {f"{SMALL_MEGABYTES} MB": small, f"{megabytes} MB": large},
        "targets": {
            "gap": at_most(longest, TARGET_SECONDS * 1e3, "longest gap in ms over all changes, at most"),
            "tries": at_most(large["most_tries"], 2, "times that one call was made, at most"),
            "failed": at_most(large["failed_calls"], 0, "calls that failed although they retried"),
        },
    }


async def _measure(changes: int, megabytes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="varpulis-bench-") as directory:
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(
                ours.nodes(Path(directory), "--megabytes", str(megabytes))
            )
            newcomers = [f"n{number}" for number in range(4, 4 + changes)]
            for name in newcomers:
                stack.enter_context(cluster.process(name, "--join"))
            return await _under_load(cluster, newcomers)


async def _change(cluster: ours.Nodes, asked: tuple[str, str], *, add: str, remove: str) -> None:
    """At whoever leads, which may be another node after each change."""
    deadline = time.monotonic() + CHANGE_SECONDS
    order = {"op": "change", "add": add, "remove": remove, "deadline": CHANGE_SECONDS}
    while True:
        told = [await cluster.order(member, ours.STATUS_SECONDS, op="status") for member in asked]
        leader = next((status["leader_id"] for status in told if status["leader_id"]), asked[0])
        try:
            await cluster.order(leader, CHANGE_SECONDS + 2.0, **order)
            return
        except ours.OrderFailed:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _under_load(cluster: ours.Nodes, newcomers: list[str]) -> dict[str, Any]:
    leader = await cluster.leader()
    stays, leaves = (member for member in ours.MEMBERS if member != leader)
    seconds = len(newcomers) * (PAUSE_SECONDS + LONGEST_SECONDS) + PAUSE_SECONDS
    steady = {"op": "steady", "clients": CLIENTS, "seconds": seconds, "size": 0}
    loads = [
        asyncio.create_task(cluster.order(member, seconds + 20.0, **steady)) for member in (leader, stays)
    ]
    windows: list[Span] = []
    for name in newcomers:
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.monotonic()
        await _change(cluster, (leader, stays), add=name, remove=leaves)
        windows.append((began, time.monotonic() + AFTERWARDS_SECONDS))
        leaves = name
    results = await asyncio.gather(*loads)
    standstills = {}
    for member in (leader, stays):
        answer = await cluster.order(member, 10.0, op="standstills")
        standstills[member] = msgspec.convert(answer["standstills"], list[Standstill])
    gaps = [longest_gaps(result["commits"], windows) for result in results]
    of_changes = [max(each) for each in zip(*(longest for longest, _ in gaps), strict=True)]
    spans = [(at, at) for result in results for at in result["commits"]]
    return {
        "change_seconds": [round(end - AFTERWARDS_SECONDS - begin, 2) for begin, end in windows],
        "commits": len(spans),
        "longest_gap_ms": [round(gap * 1e3, 1) for gap in of_changes],
        "longest_gap_without_change_ms": round(max(otherwise for _, otherwise in gaps) * 1e3, 1),
        "retried_calls": sum(result["retried"] for result in results),
        "most_tries": max(result["most_tries"] for result in results),
        "failed_calls": sum(result["failed"] for result in results),
        "heard": [result["heard"] for result in results],
        "standstills": {member: told(found, spans, windows) for member, found in standstills.items()},
    }
