"""What `NatsTransport` costs beside bare nats-py, on one nats-server: the same work through both.

`run()` alternates the two. Figures are the best of the rounds, since a shared machine only ever adds time;
a ratio is the median of the rounds' ratios, since both sides of a round met about the same load.
"""

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import nats

from transport.config import NatsConfig
from transport.loop import run as run_loop
from transport.nats import Message, NatsTransport
from transport.nats_binary import nats_server_binary

REQUESTS: Final = 500
PUBLISHES: Final = 20_000
ROUNDS: Final = 10
_WAIT: Final = 10.0


async def _request_times(request: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Microseconds of a request and its answer: as one waits for it, and of CPU (both ends)."""
    times = []
    cpu = time.process_time()
    for _ in range(REQUESTS):
        start = time.perf_counter()
        await request()
        times.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return {"request_p50_us": statistics.median(times) * 1e6, "request_cpu_us": cpu / REQUESTS * 1e6}


async def _publish_rate(
    publish: Callable[[], Awaitable[None]], flush: Callable[[], Awaitable[None]]
) -> float:
    """Messages a second, until the server has them all."""
    start = time.perf_counter()
    for index in range(PUBLISHES):
        await publish()
        if index % 1_000 == 0:
            await asyncio.sleep(0)
    await flush()
    return PUBLISHES / (time.perf_counter() - start)


async def _receive_rate(
    publish: Callable[[], Awaitable[None]], received: "list[int]", flush: Callable[[], Awaitable[None]]
) -> float:
    """Messages a second, through the server into a handler of the same process."""
    received[0] = 0
    start = time.perf_counter()
    for index in range(PUBLISHES):
        await publish()
        if index % 500 == 0:
            await asyncio.sleep(0)
    await flush()
    deadline = start + _WAIT
    while received[0] < PUBLISHES and time.perf_counter() < deadline:
        await asyncio.sleep(0)
    return received[0] / (time.perf_counter() - start)


async def _ours(url: str) -> dict[str, float]:
    bus = await NatsTransport.connect(NatsConfig(servers=(url,)), wait=_WAIT)
    received = [0]

    async def echo(message: Message) -> None:
        await bus.publish(message.reply, message.data)

    async def count(message: Message) -> None:
        received[0] += 1

    await bus.subscribe("echo", echo)
    await bus.subscribe("events", count, pending_messages=PUBLISHES)
    data = b"x" * 64
    result = {
        **await _request_times(lambda: bus.request("echo", data, timeout=5)),
        "publishes_per_s": await _publish_rate(lambda: bus.publish("nobody", data), bus.flush),
        "receives_per_s": await _receive_rate(lambda: bus.publish("events", data), received, bus.flush),
    }
    await bus.close()
    return result


async def _bare(url: str) -> dict[str, float]:
    client = await nats.connect(url)
    received = [0]

    async def echo(message: Any) -> None:
        await client.publish(message.reply, message.data)

    async def count(message: Any) -> None:
        received[0] += 1

    await client.subscribe("echo", cb=echo)
    await client.subscribe("events", cb=count)
    data = b"x" * 64
    result = {
        **await _request_times(lambda: client.request("echo", data, timeout=5)),
        "publishes_per_s": await _publish_rate(lambda: client.publish("nobody", data), client.flush),
        "receives_per_s": await _receive_rate(lambda: client.publish("events", data), received, client.flush),
    }
    await client.close()
    return result


def _best(rounds: list[dict[str, float]]) -> dict[str, float]:
    pick = {name: min if name.endswith("_us") else max for name in rounds[0]}
    return {name: round(pick[name](each[name] for each in rounds), 1) for name in pick}


async def _compare(url: str) -> dict[str, Any]:
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(await _ours(url))
        bare.append(await _bare(url))
    best, base = _best(ours), _best(bare)
    ratio = {
        name: round(
            statistics.median(mine[name] / theirs[name] for mine, theirs in zip(ours, bare, strict=True)), 3
        )
        for name in best
    }
    return {"transport": best, "nats_py": base, "ratio": ratio}


def run() -> dict[str, Any]:
    """Figures of both, and their ratio, against a nats-server of its own on a free port."""
    result: dict[str, Any] = {}

    async def main(url: str) -> int:
        result.update(await _compare(url))
        return 0

    with tempfile.TemporaryDirectory() as directory:
        command = [str(nats_server_binary()), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", directory]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            run_loop(main(_url(Path(directory))))
        finally:
            server.kill()
            server.wait()
    return result


def _url(directory: Path) -> str:
    """The URL that nats-server writes into its ports file."""
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        for file in directory.glob("*.ports"):
            if text := file.read_text():
                return str(json.loads(text)["nats"][0])
        time.sleep(0.01)
    raise TimeoutError(f"nats-server did not write its port within {_WAIT:g} s")


if __name__ == "__main__":
    print(run())
