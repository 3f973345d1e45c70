"""What a worker's dispatcher costs beside a bare nats-py responder, over one nats-server in the same run.

Both responders are processes of their own; one client asks them in turn, a slice each, so both meet about the
same load of the machine. The command is an `inject` that goes through a pipeline; the bare responder echoes.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any, Final

import nats

from benchmarks import stage
from proto_schemas.subjects import Subjects
from transport.loop import run as run_loop

TARGET: Final = 1.3
SLICE: Final = 50
ECHO: Final = "bench.echo"
SOURCE: Final = "stream Held = Door.where(held_ms > 30000).emit(badge: badge, held_ms: held_ms)"


def run(requests: int = 3000) -> dict[str, Any]:
    """Microseconds of a request, through the dispatcher and bare; `ratio_p50` must not exceed `TARGET`."""
    result: dict[str, Any] = {}

    async def main(url: str) -> int:
        result.update(await _measure(url, requests))
        return 0

    with (
        stage.nats_server() as url,
        stage.worker(url),
        stage.process("benchmarks.dispatch", "echo", url),
    ):
        run_loop(main(url))
    return result


async def _measure(url: str, requests: int) -> dict[str, Any]:
    client = await nats.connect(url)
    deployed = await stage.command(client, "deploy", {"name": "filter", "source": SOURCE})
    event = {"event_type": "Door", "fields": {"badge": "b-1", "held_ms": 40000}}
    data = json.dumps({"pipeline_id": deployed["id"], **event}).encode()
    inject = Subjects().command(stage.WORKER, "inject")
    await _up(client)
    times: dict[str, list[float]] = {inject: [], ECHO: []}
    for _ in range(max(1, requests // SLICE) + 1):
        for subject, taken in times.items():
            for _ in range(SLICE):
                start = time.perf_counter()
                await client.request(subject, data, timeout=stage.WAIT)
                taken.append((time.perf_counter() - start) * 1e6)
    await client.close()
    dispatched, bare = (_quantiles(taken[SLICE:]) for taken in times.values())
    ratio = round(dispatched["p50_us"] / bare["p50_us"], 3)
    return {
        "dispatcher": dispatched,
        "nats_py": bare,
        "ratio_p50": {"value": ratio, "target": f"<= {TARGET}", "met": ratio <= TARGET},
    }


def _quantiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50_us": round(cuts[49], 1), "p99_us": round(cuts[98], 1)}


async def _up(client: Any) -> None:
    deadline = time.monotonic() + stage.WAIT
    while True:
        try:
            await client.request(ECHO, b"", timeout=stage.WAIT)
            return
        except nats.errors.NoRespondersError:
            if time.monotonic() > deadline:
                raise


async def _echo(url: str) -> int:
    client = await nats.connect(url)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe(ECHO, cb=echo)
    await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    run_loop(_echo(sys.argv[2]))
