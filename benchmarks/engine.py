"""The engine alone: events per second of typical programs, in one process, beside a fixed pure-Python loop.

Time is CPU time of this process (the engine is one thread and waits for nothing), so that neighbours on
the machine do not count, except in the caches. Each program runs `repeats` times over the same events;
the median counts. `per_loop` (events per iteration of the loop in the same round) compares between
machines and runs where events per second do not. The last program includes what a worker does around the
engine: JSON bytes in and out.
"""

import random
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time
from typing import Any

import orjson

import vpl

Event = tuple[str, dict[str, Any], int]

PROGRAMS: dict[str, tuple[str, int]] = {
    "where_emit": (
        """stream Held = Door.where(held_ms > 30000 and site != "lab")
            .emit(badge: badge, secs: held_ms / 1000, level: if held_ms > 120000 then "high" else "low")""",
        1_500_000,
    ),
    "count_window": (
        """stream Busy = Door.partition_by(site).window(100)
            .aggregate(n: count(), total: sum(held_ms), mean: avg(held_ms), low: min(held_ms), worst:
            max(held_ms))
            .emit(site: site, n: n, worst: worst, mean: mean)""",
        2_000_000,
    ),
    "time_window": (
        """stream Busy = Door.partition_by(site).window(1s).aggregate(n: count(), worst: max(held_ms))
            .having(n > 20).emit(site: site, n: n, worst: worst)""",
        2_500_000,
    ),
    "sliding_window": (
        """stream Busy = Door.partition_by(site).window(10s, sliding: 1s)
            .aggregate(n: count(), mean: avg(held_ms), worst: max(held_ms)).having(n > 20)
            .emit(site: site, n: n, worst: worst, mean: mean)""",
        1_000_000,
    ),
    "session_window": (
        """stream Busy = Door.partition_by(site).window(session: 100ms)
            .aggregate(n: count(), worst: max(held_ms)).emit(site: site, n: n, worst: worst)""",
        1_000_000,
    ),
    "event_time": (
        """stream Busy = Door.watermark(out_of_order: 200ms).partition_by(site).window(1s)
            .aggregate(n: count(), worst: max(held_ms)).emit(site: site, n: n, worst: worst)""",
        500_000,
    ),
    "join": (
        """stream Long = Door.where(held_ms > 100000)
        stream Short = Door.where(held_ms < 10000)
        stream Pair = join(Long, Short).on(Long.badge == Short.badge).window(1s)
            .emit(badge: Long.badge, ms: Long.held_ms - Short.held_ms)""",
        300_000,
    ),
    "three_streams": (
        """stream Long = Door.where(held_ms > 1000).select(badge: badge, site: site, secs: held_ms / 1000)
        stream Known = Long.where(site != "lab").select(badge: badge, secs: secs)
        stream Alert = Known.where(secs > 2).emit(badge: badge, secs: secs)""",
        800_000,
    ),
    "twenty_streams": (  # over one type, each of which takes its twentieth
        "\n".join(
            f"stream S{n} = Door.where(held_ms >= {n * 10_000} and held_ms < {(n + 1) * 10_000})"
            ".emit(badge: badge, secs: held_ms / 1000)"
            for n in range(20)
        ),
        300_000,
    ),
}
SMALL = PROGRAMS["where_emit"][0]
SEQUENCE = "stream Pair = A as a -> B where k == a.k as b .within(1h).emit(k: a.k, v: b.v)"
SEQUENCES = {"sequence_1_open": (1, 1_600_000), "sequence_1000_open": (1000, 2_700_000)}
"""Open runs, and the target. With one, each second event completes it; with a thousand, events pass by that
complete none of them, but for every hundredth."""
CODEC_TARGET = 800_000
BATCH = 1000


def run(events: int = 200_000, repeats: int = 5) -> dict[str, Any]:
    """Events per second for each program; `events` per round, `repeats` rounds."""
    stream = _events(events)
    results = {
        name: _measured(repeats, events, target, partial(_engine_round, source, stream))
        for name, (source, target) in PROGRAMS.items()
    }
    for name, (open_runs, target) in SEQUENCES.items():
        play = partial(_engine_round, SEQUENCE, _sequence_events(open_runs, events))
        results[name] = _measured(repeats, events, target, play)
    payloads = [
        orjson.dumps({"event_type": t, "timestamp": ts, "fields": fields}) for t, fields, ts in stream
    ]
    results["bytes_to_bytes"] = {
        **_measured(repeats, events, CODEC_TARGET, partial(_codec_round, SMALL, payloads)),
        "json_alone_per_s": round(events / _json_round(SMALL, payloads)),
    }
    return {"programs": results, "deploy_ms": _deploy_ms(), "checkpoint_10k_windows_ms": _checkpoint_ms()}


def _events(count: int) -> list[Event]:
    chance = random.Random(7)
    sites = [f"site-{i}" for i in range(20)] + ["lab"]
    return [
        (
            "Door",
            {"badge": f"b{i % 500}", "site": chance.choice(sites), "held_ms": chance.randrange(200_000)},
            1_700_000_000_000 + i,
        )
        for i in range(count)
    ]


def _sequence_events(open_runs: int, count: int) -> list[Event]:
    begun = [("A", {"k": f"k{i}", "v": i}, 0) for i in range(open_runs if open_runs > 1 else 0)]
    stream: list[Event] = []
    for i in range(count):
        if open_runs == 1:
            stream.append(("AB"[i % 2], {"k": f"k{i // 2 % 1000}", "v": i}, i))
        elif i % 100 < 2:
            stream.append(("BA"[i % 100], {"k": f"k{i // 100 % open_runs}", "v": i}, i))
        else:
            stream.append(("B", {"k": f"other{i % 1000}", "v": i}, i))
    return begun + stream


def _loop_rate(iterations: int = 300_000) -> float:
    total, start = 0, process_time()
    for i in range(iterations):
        total += i & 7
    return iterations / (process_time() - start)


def _measured(repeats: int, events: int, target: int, round_seconds: Callable[[], float]) -> dict[str, Any]:
    rates, ratios = [], []
    for _ in range(repeats):
        loop, rate = _loop_rate(), events / round_seconds()
        rates.append(rate)
        ratios.append(rate / loop)
    rate = median(rates)
    return {
        "events_per_s": round(rate),
        "best": round(max(rates)),
        "per_loop": round(median(ratios), 4),
        "target": target,
        "met": rate >= target,
    }


def _engine_round(source: str, stream: list[Event]) -> float:
    engine = vpl.compile_source(source).start()
    process, start = engine.process, process_time()
    for first in range(0, len(stream), BATCH):
        for event_type, fields, ts in stream[first : first + BATCH]:
            process(event_type, fields, ts)
        engine.take()
    return process_time() - start


def _codec_round(source: str, payloads: list[bytes]) -> float:
    engine = vpl.compile_source(source).start()
    process, loads, dumps, start = engine.process, orjson.loads, orjson.dumps, process_time()
    for first in range(0, len(payloads), BATCH):
        for payload in payloads[first : first + BATCH]:
            event = loads(payload)
            process(event["event_type"], event["fields"], event["timestamp"])
        for _, event_type, fields, ts in engine.take():
            dumps({"event_type": event_type, "timestamp": ts, "fields": fields})
    return process_time() - start


def _json_round(source: str, payloads: list[bytes]) -> float:
    """What `_codec_round` costs without its engine: each payload read, as much written as comes out."""
    engine = vpl.compile_source(source).start()
    for event in map(orjson.loads, payloads):
        engine.process(event["event_type"], event["fields"], event["timestamp"])
    outputs = [{"event_type": t, "timestamp": ts, "fields": fields} for _, t, fields, ts in engine.take()]
    start = process_time()
    for payload in payloads:
        orjson.loads(payload)
    for output in outputs:
        orjson.dumps(output)
    return process_time() - start


def _deploy_ms() -> float:
    vpl.compile_source(SMALL)  # the grammar is built once per process
    start = process_time()
    vpl.compile_source(SMALL + "\n").start()
    return round((process_time() - start) * 1000, 2)


def _checkpoint_ms() -> float:
    engine = vpl.compile_source(PROGRAMS["time_window"][0]).start()
    for i in range(10_000):
        engine.process("Door", {"site": f"s{i}", "held_ms": i}, 1_700_000_000_000)
    start = process_time()
    engine.snapshot()
    return round((process_time() - start) * 1000, 2)
