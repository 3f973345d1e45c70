"""What a checkpoint of a large state costs the events of a pipeline: the longest they wait.

An engine is filled with keyed windows until the process has grown by `megabytes`. Then a steady stream of
events goes through it, a few each millisecond, in the event loop a worker has, while a checkpoint is taken
and written into a directory, as a worker does it. A **stall** is the time between two turns of that stream,
less the pause it asked for; what counts is the longest of a round. In the same rounds, alternately, the
stream runs alone: what of the stalls is the machine's. Beside it what else was measured before forking was
chosen: the copy made at once, in the loop.

`restored_beside_it`: the same stream while its worker reads such a state back for another pipeline. It has
no target, since that happens once, after a death.

`fork_ms` is what the making of the cut itself held up; it grows with the memory of the process, about 4 ms
for each 100 MB here.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks import WrongUsage
from transport.loop import run as run_loop
from vpl import Engine, compile_source
from worker import checkpoints
from worker.cut import cut
from worker.pipeline import now_ms
from worker.store.archive import Archive
from worker.store.base import Owner, Place
from worker.store.directory import DirectoryStore

TARGET_MS: Final = 20.0
PAUSE: Final = 0.001
PER_TURN: Final = 20
"""Events in one turn of the stream: some 15,000 a second."""
SOURCE: Final = """stream S = T.partition_by(k).window(1000000)
    .aggregate(k: last(k), n: count(), total: sum(v), low: min(v), high: max(v), name: last(name))
    .emit(k: k, n: n)"""


def run(megabytes: int = 100, rounds: int = 7) -> dict[str, Any]:
    """The longest stall of a round; `megabytes` of state, `rounds` with a checkpoint and as many without."""
    if not 1 <= megabytes <= 2000 or not 1 <= rounds <= 100:
        raise WrongUsage(f"megabytes={megabytes} or rounds={rounds}: give 1 to 2000, and 1 to 100")
    found: dict[str, Any] = {}

    async def main() -> int:
        found.update(await _measure(megabytes, rounds))
        return 0

    run_loop(main())
    return found


async def _measure(megabytes: int, rounds: int) -> dict[str, Any]:
    engine, keys = _filled(megabytes)
    stream = _Stream(engine, keys)
    found: list[dict[str, float]] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        archive = Archive(DirectoryStore(Path(directory)))
        for _ in range(rounds):
            found.append(await _checkpointed(engine, stream, archive))
            alone.append(await _alone(stream, found[-1]["took_s"]))
        size = archive.bytes_written // rounds
        restored = [await _restored(stream, archive) for _ in range(rounds)]
    stalls = [each["stall_ms"] for each in found]
    longest = median(stalls)
    return {
        "state": {"windows": keys, "resident_mb": megabytes, "written_mb": round(size / 1e6, 1)},
        "longest_stall_ms": round(longest, 2),
        "target_ms": TARGET_MS,
        "met": longest <= TARGET_MS,
        "of_each_round_ms": [round(stall, 2) for stall in stalls],
        "without_checkpoint_ms": round(median(alone), 2),
        "fork_ms": round(median(each["fork_ms"] for each in found), 2),
        "checkpoint_s": round(median(each["took_s"] for each in found), 3),
        "events_per_s": round(median(each["rate"] for each in found)),
        "copied_in_the_loop_ms": round(_in_loop(engine), 1),
        "restored_beside_it": {
            "longest_stall_ms": round(median(each["stall_ms"] for each in restored), 2),
            "took_s": round(median(each["took_s"] for each in restored), 3),
        },
    }


def _filled(megabytes: int) -> tuple[Engine, int]:
    engine = compile_source(SOURCE).start()
    process = psutil.Process()
    wanted = process.memory_info().rss + megabytes * 1_000_000
    keys = 0
    while process.memory_info().rss < wanted:
        for _ in range(1000):
            engine.process("T", _event(keys), keys)
            keys += 1
    return engine, keys


def _event(number: int) -> dict[str, Any]:
    return {"k": f"key-{number}", "v": number * 1.5, "name": f"some-name-{number}"}


class _Stream:
    """Events for keys all over the state, so that they touch its pages. `longest`: seconds, since `reset`."""

    def __init__(self, engine: Engine, keys: int) -> None:
        self._engine = engine
        self._keys = keys
        self._key = 0
        self.reset()

    def reset(self) -> None:
        self.longest, self.events = 0.0, 0

    async def flow(self) -> None:
        """Until cancelled."""
        last = time.perf_counter()
        while True:
            for _ in range(PER_TURN):
                self._key = (self._key + 7919) % self._keys
                self._engine.process("T", _event(self._key), self._key)
            self._engine.take()
            self.events += PER_TURN
            await asyncio.sleep(PAUSE)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - PAUSE)
            last = now


async def _checkpointed(engine: Engine, stream: _Stream, archive: Archive) -> dict[str, float]:
    stream.reset()
    flow = asyncio.create_task(stream.flow())
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    async with cut(engine, "p", now_ms) as taken:
        owner = Owner(Place("g", "p"), 1)
        await archive.write(owner, taken.pieces(), taken_at=now_ms(), source_sha256="")
    took = time.perf_counter() - began
    await asyncio.sleep(0.1)
    flow.cancel()
    return {
        "stall_ms": stream.longest * 1000,
        "fork_ms": taken.stall * 1000,
        "took_s": took,
        "rate": stream.events / (took + 0.2),
    }


async def _restored(stream: _Stream, archive: Archive) -> dict[str, float]:
    """What it costs that stream when its worker takes over such a state for another pipeline."""
    copy = compile_source(SOURCE).start()

    async def accept(chunks: AsyncIterator[bytes]) -> None:
        checkpoint = await checkpoints.unpacked(chunks)
        await asyncio.to_thread(checkpoints.put_back, copy, checkpoint)

    stream.reset()
    flow = asyncio.create_task(stream.flow())
    began = time.perf_counter()
    place = Place("g", "p")
    await archive.newest(place, await archive.claim(Owner(place, 1)), accept)
    took = time.perf_counter() - began
    flow.cancel()
    return {"stall_ms": stream.longest * 1000, "took_s": took}


async def _alone(stream: _Stream, seconds: float) -> float:
    stream.reset()
    flow = asyncio.create_task(stream.flow())
    await asyncio.sleep(seconds + 0.2)
    flow.cancel()
    return stream.longest * 1000


def _in_loop(engine: Engine) -> float:
    began = time.perf_counter()
    for _ in checkpoints.lines(engine, "p", 0):
        pass
    return (time.perf_counter() - began) * 1000
