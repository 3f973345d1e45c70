"""The floor: one bare nats-py request to another process and back, then one `fdatasync` of a record.

No commit on a majority can cost less, done this way: whatever is promised was sent to one other process,
which answered, and was synced at least once. (A commit syncs on both sides, at the same time at best.) No
framework of ours is in it. `python -m benchmarks.raft.floor URL` is the other process.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import nats

from benchmarks.raft.figures import Figures, milliseconds
from benchmarks.raft.process import Process
from tests.support.nats_server import NatsServer
from transport.loop import run

SUBJECT: Final = "floor.echo"
WAIT_SECONDS: Final = 10.0


async def measure(directory: Path, sizes: list[int], seconds: float) -> dict[int, Figures]:
    """For each size of the record: the pair's p50 and p99, and the p50 of each half, in ms."""
    command = [sys.executable, "-m", "benchmarks.raft.floor"]
    with NatsServer() as server, Process([*command, server.url], directory / "echo.log"):
        client = await nats.connect(server.url)
        try:
            await _up(client)
            return {size: await _pairs(client, directory / "floor", size, seconds) for size in sizes}
        finally:
            await client.close()


async def _pairs(client: Any, path: Path, size: int, seconds: float) -> Figures:
    record = os.urandom(size)
    requests, syncs = [], []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            await client.request(SUBJECT, record, timeout=WAIT_SECONDS)
            answered = time.perf_counter()
            os.write(descriptor, record)
            os.fdatasync(descriptor)
            requests.append(answered - began)
            syncs.append(time.perf_counter() - answered)
    finally:
        os.close(descriptor)
    both = [request + sync for request, sync in zip(requests, syncs, strict=True)]
    return {
        **milliseconds(both),
        "request_p50_ms": milliseconds(requests)["p50_ms"],
        "fdatasync_p50_ms": milliseconds(syncs)["p50_ms"],
    }


async def _up(client: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            await client.request(SUBJECT, b"", timeout=1.0)
            return
        except nats.errors.Error:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.02)


async def _echo(url: str) -> int:
    client = await nats.connect(url)

    async def answer(message: Any) -> None:
        await message.respond(b"")

    await client.subscribe(SUBJECT, cb=answer)
    await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(run(_echo(sys.argv[1])))
