"""Reads a second from one follower, with `consistency=stale`: it answers from what it has applied.

The route that is judged is `GET /pipeline-groups/{id}` of a group of ten pipelines, another one each time, in
a cluster with a realistic state (1,000 workers that beat once a second, 1,000 pipelines): what `varpulis
status` and a dashboard ask, with some work in each answer. One worker, and a page of 50 workers, stand
beside it. The load is one process with keep-alive connections that speak bare HTTP, each in a closed loop; it
shares the cores with the cluster, whose heartbeats go on.
"""

import asyncio
import itertools
import time
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.control.bed import SETTLE, Bed, bed, workers
from benchmarks.raft.figures import at_least, milliseconds
from proto_schemas.rest.base import API_BASE

TARGET: Final = 3_000.0
GROUPS: Final = 100
PIPELINES: Final = 10
WORKERS: Final = 1_000
CONNECTIONS: Final = 16
JUDGED: Final = "group of 10 pipelines"
_PATHS: Final = {
    JUDGED: [f"/pipeline-groups/g-{number}" for number in range(GROUPS)],
    "one worker": [f"/workers/w-{number:05}" for number in range(WORKERS)],
    "page of 50 workers": ["/workers?limit=50"],
}


async def measure(*, seconds: float) -> dict[str, Any]:
    """Each route for `seconds`."""
    result: dict[str, Any] = {}
    async with bed(joined=workers(WORKERS, 10)) as stage:
        for number in range(GROUPS):
            await stage.deploy(f"g-{number}", PIPELINES)
        await asyncio.sleep(SETTLE)
        await load(stage, _PATHS[JUDGED], 1.0)  # warm
        for name, paths in _PATHS.items():
            result[name] = await load(stage, paths, seconds)
        result["leader_changed"] = await stage.leader_changed()
    rate = float(result[JUDGED]["per_second"])
    return {
        "workers": WORKERS,
        "connections": CONNECTIONS,
        **result,
        "targets": {
            "rate": at_least(rate, TARGET, f"stale reads a second from one follower, {JUDGED}, at least")
        },
    }


async def load(stage: Bed, paths: list[str], seconds: float) -> dict[str, Any]:
    """A closed loop over the paths on each of `CONNECTIONS`."""
    place = urlsplit(stage.cluster.url(stage.followers[0]))
    turn = itertools.cycle(_request(path) for path in paths)
    took: list[float] = []
    sizes: list[int] = []
    with stage.meter() as meter:
        ends = time.perf_counter() + seconds

        async def client() -> None:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                while (began := time.perf_counter()) < ends:
                    writer.write(next(turn))
                    sizes.append(await _answer(reader))
                    took.append(time.perf_counter() - began)
            finally:
                writer.close()

        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return {
        "per_second": round(len(took) / meter.seconds),
        **milliseconds(took),
        "bytes": round(sum(sizes) / len(sizes)),
        "follower_us_each": round(2e6 * meter.cpu["followers"] / len(took), 1),
        **meter.figures(),
    }


def _request(path: str) -> bytes:
    query = "&" if "?" in path else "?"
    return f"GET {API_BASE}{path}{query}consistency=stale HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> int:
    """Bytes of the body of one answer, which is read whole.

    Raises:
        RuntimeError: it is no 200.
    """
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a read was answered with {head[:200]!r}")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
    return size
