"""What a pipeline notices of a neighbour on the same worker that misbehaves, and what the coordinators do.

Beside the pipeline that is watched, which is sent an event every 2 ms, runs one that is in trouble:

    calm      nothing is sent to it
    endless   one event that would take many seconds: it is cut off after `event_secs`
    slow      events that take some 20 ms of processor time each, more than there is time for
    ten       ten such pipelines, with events that take nearly half a second each
    flood     events as fast as a socket takes them
    keys      a million keys, each with a window, of which at most `max_keys` are kept

Each has a worker of its own, for some seconds. `delay_ms` is that of the watched pipeline's outputs;
`heartbeat_gap_s` the longest time without a heartbeat (one a second is due), which must stay below the lease;
`rss_mb` the worker's memory before and at its most.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any, Final

import nats
import psutil

from benchmarks import WrongUsage, stage
from benchmarks.routing.load import connect
from proto_schemas.subjects import EXTERNAL, Subjects
from transport.loop import run as run_loop

LEASE: Final = 2.4
"""Seconds: what coordinators grant by default."""
EVERY: Final = 0.002
PACE: Final = {"slow": 0.01, "ten": 0.1}
"""Seconds between events for those that are slow."""
MOST_KEYS: Final = 1_000_000
PATIENCE: Final = 5.0
"""Seconds in which the last outputs must come."""
LONG: Final = "a" * 900_000
_SUBJECTS: Final = Subjects()
_CALLS: Final = "\n".join(
    [
        'fn g0(x: str) -> str:\n    replace(replace(x, "a", "b"), "b", "a")',
        *(f"fn g{n}(x: str) -> str:\n    g{n - 1}(g{n - 1}(x))" for n in range(1, 9)),
    ]
)
PROGRAMS: Final = {
    "calm": "stream Out = In.emit(n: n)",
    "endless": f"{_CALLS}\nstream Out = In.emit(n: len(g8(g8(g8(g8(g8(g8(text))))))))",
    "slow": f"{_CALLS}\nstream Out = In.emit(n: len(g3(text)))",
    "ten": f"{_CALLS}\nstream Out = In.emit(n: len(g8(text)))",
    "flood": "stream Out = In.emit(n: n)",
    "keys": "stream Out = In.partition_by(n).window(1h).aggregate(n: count()).emit(n: n)",
}


def run(
    cases: str = ",".join(PROGRAMS), seconds: float = 5.0, event_secs: float = 1.0, max_keys: int = 100_000
) -> dict[str, Any]:
    """Each of `cases`, for so many seconds; `keys` until a million have come."""
    wanted = cases.split(",")
    if unknown := [case for case in wanted if case not in PROGRAMS]:
        raise WrongUsage(f"{unknown[0]!r} is no case: use {', '.join(PROGRAMS)}")
    found: dict[str, Any] = {}
    for case in wanted:
        with (
            stage.nats_server() as url,
            stage.worker(url, event_secs=event_secs, max_keys=max_keys) as worker,
        ):

            async def main(case: str = case, url: str = url, worker: psutil.Process = worker) -> int:
                found[case] = await _watch(url, worker, case, seconds)
                return 0

            run_loop(main())
    return found


async def _watch(url: str, worker: psutil.Process, case: str, seconds: float) -> dict[str, Any]:
    client = await nats.connect(url)
    delays: list[float] = []
    sent = 0

    async def heard(message: Any) -> None:
        delays.append(time.perf_counter() - json.loads(message.data)["fields"]["n"])

    await client.subscribe("bench.isolation.out", cb=heard)
    async with _coordinator(client) as heartbeats:
        routes = [{"from_pipeline": "good", "to_pipeline": "x", "event_types": ["*"]}]
        routes[0]["nats_subject"] = "bench.isolation.out"
        programs = {"good": PROGRAMS["calm"], **dict.fromkeys(_bad(case), PROGRAMS[case])}
        for name, source in programs.items():
            message = {"name": name, "source": source, "group": "g", "routes": routes}
            answer = await stage.command(client, "deploy", message)
            if answer.get("status") != "running":
                raise RuntimeError(f"{name} was not deployed: {answer}")
        memory = [worker.memory_info().rss / 1e6]
        trouble = asyncio.create_task(_trouble(url, client, case, seconds))
        until = time.monotonic() + seconds
        while time.monotonic() < until or not trouble.done():
            event = {"event_type": "In", "fields": {"n": time.perf_counter()}}
            await client.publish(_SUBJECTS.pipeline("g", EXTERNAL, "good"), json.dumps(event).encode())
            sent += 1
            if sent % 50 == 0:
                memory.append(worker.memory_info().rss / 1e6)
            await asyncio.sleep(EVERY)
        trouble.result()
        until = time.monotonic() + PATIENCE
        while len(delays) < sent and time.monotonic() < until:
            await asyncio.sleep(0.01)
        gap = max(
            later - sooner for sooner, later in zip(heartbeats.times, heartbeats.times[1:], strict=False)
        )
        bad = next(each for each in heartbeats.last["pipelines"] if each["name"] == _bad(case)[0])
        counts = [each for each in heartbeats.last["pipeline_metrics"] if each["pipeline_name"] != "good"]
    await client.close()
    missing = sent - len(delays)
    delays.sort()
    return {
        "sent": sent,
        "missing": {"value": missing, "target": "0", "met": missing == 0},
        "delay_ms": {
            "p50": round(statistics.median(delays) * 1000, 2),
            "p99": round(delays[len(delays) * 99 // 100] * 1000, 2),
            "max": round(delays[-1] * 1000, 1),
        },
        "heartbeat_gap_s": {"value": round(gap, 2), "target": f"<= {LEASE}", "met": gap <= LEASE},
        "rss_mb": {"before": round(memory[0]), "most": round(max(memory))},
        "bad": {
            "state": bad["state"],
            "reason": bad.get("reason"),
            "events_in": sum(each["events_in"] for each in counts),
        },
    }


class _Heartbeats:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.last: Any = {}


@contextlib.asynccontextmanager
async def _coordinator(client: Any) -> AsyncIterator[_Heartbeats]:
    """One that answers, grants a lease, and notes when it hears what."""
    heartbeats = _Heartbeats()

    async def register(message: Any) -> None:
        name = json.loads(message.data)["worker_id"]
        answer = {"worker_id": name, "status": "registered", "heartbeat_interval_secs": 1}
        await message.respond(json.dumps(answer).encode())

    async def hear(message: Any) -> None:
        heartbeats.times.append(time.monotonic())
        heartbeats.last = json.loads(message.data)
        if message.reply:
            await message.respond(json.dumps({"term": 1, "lease_secs": LEASE}).encode())

    await client.subscribe(_SUBJECTS.register, cb=register)
    await client.subscribe(_SUBJECTS.heartbeats, cb=hear)
    until = time.monotonic() + stage.WAIT
    while not heartbeats.times:
        if time.monotonic() > until:
            raise TimeoutError(f"no heartbeat within {stage.WAIT:g} s")
        await asyncio.sleep(0.01)
    yield heartbeats


async def _trouble(url: str, client: Any, case: str, seconds: float) -> None:
    """What the other pipeline is sent."""
    subject = _SUBJECTS.pipeline("g", EXTERNAL, "bad")
    if case == "endless":
        await asyncio.sleep(seconds / 5)
        await client.publish(subject, _event(0, LONG))
    elif case in ("slow", "ten"):
        until, targets = time.monotonic() + seconds, cycle(_bad(case))
        while time.monotonic() < until:
            await client.publish(_SUBJECTS.pipeline("g", EXTERNAL, next(targets)), _event(0, LONG))
            await asyncio.sleep(PACE[case])
    elif case in ("flood", "keys"):
        count = MOST_KEYS if case == "keys" else 0
        with stage.process("benchmarks.isolation", url, subject, str(count), str(seconds)) as flood:
            await asyncio.to_thread(flood.wait)


def _bad(case: str) -> list[str]:
    """The pipelines in trouble."""
    return [f"bad-{number}" for number in range(10)] if case == "ten" else ["bad"]


def _event(number: int, text: str = "") -> bytes:
    return json.dumps({"event_type": "In", "fields": {"n": number, "text": text}}).encode()


def _flood(url: str, subject: str, count: int, seconds: float) -> None:
    """Send numbers: `count` of them at the pace of a worker, or as fast as they go for `seconds`."""
    until, number = time.monotonic() + seconds, 0
    with connect(url) as sender:
        while number < count if count else time.monotonic() < until:
            events = [_event(each) for each in range(number, number + 500)]
            sender.sendall(b"".join(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(e), e) for e in events))
            number += 500
            if count:
                time.sleep(0.01)


if __name__ == "__main__":
    _flood(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
