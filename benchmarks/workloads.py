"""Three workloads that other engines publish figures of: a filter, averages over windows, a sequence.

Each reads a file of JSON lines, 100,000 events: price 40 + i % 100, volume 100 + i % 10. What is measured is
the whole way: read the file, parse each line, the engine, write each output as JSON. Each round runs in a
process of its own, whose resident memory is told: before the first event, and at its peak after it. The
median of the rounds counts.

The reference engine, in Rust, publishes 234, 335 and 256 thousand events/s at 36 to 66 MB, **on other
hardware**, so the figures stand beside ours as a hint, not as a comparison.
"""

import multiprocessing
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson

import vpl

EVENTS: Final = 100_000
PROGRAMS: Final = {
    "filter": "stream High = Trade.where(price > 50).emit(symbol: symbol, price: price)",
    "vwap": """stream Vwap = Trade.window(100)
        .aggregate(vwap: sum(price * volume) / sum(volume), n: count()).emit(vwap: vwap, n: n)""",
    "sequence": "stream Pair = A as a -> B as b .within(1h).emit(a: a.id, b: b.id)",
}
OUTPUTS: Final = {"filter": 89_000, "vwap": 1_000, "sequence": 50_000}
REFERENCE: Final = {
    "filter": {"events_per_s": 234_000},
    "vwap": {"events_per_s": 335_000},
    "sequence": {"events_per_s": 256_000},
}
CAVEAT: Final = "published by the reference engine in Rust, 36 to 66 MB resident, on other hardware"


def run(rounds: int = 5) -> dict[str, Any]:
    """Events per second and resident memory of each workload; `rounds` processes each."""
    with TemporaryDirectory(prefix="varpulis-bench-") as directory:
        return {name: _measured(name, Path(directory), rounds) for name in PROGRAMS} | {"reference": CAVEAT}


def _measured(name: str, directory: Path, rounds: int) -> dict[str, Any]:
    path = directory / f"{name}.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(_event(name, i)) for i in range(EVENTS)) + b"\n")
    context = multiprocessing.get_context("spawn")
    played = []
    for _ in range(rounds):
        with context.Pool(1) as pool:
            played.append(pool.apply(_play, (name, str(path))))
    outputs = {outputs for _, outputs, _, _ in played}
    if outputs != {OUTPUTS[name]}:
        raise AssertionError(f"{name} put out {outputs}, not {OUTPUTS[name]}")
    return {
        "events_per_s": round(EVENTS / median(seconds for seconds, *_ in played)),
        "outputs": OUTPUTS[name],
        "resident_mb": round(median(peak for *_, peak in played), 1),
        "resident_mb_before": round(median(before for _, _, before, _ in played), 1),
        "reference": REFERENCE[name],
    }


def _event(name: str, number: int) -> dict[str, Any]:
    if name == "sequence":
        return {"event_type": "AB"[number % 2], "timestamp": number, "fields": {"id": number}}
    fields = {"symbol": "ACME", "price": 40 + number % 100, "volume": 100 + number % 10}
    return {"event_type": "Trade", "timestamp": number, "fields": fields}


def _play(name: str, path: str) -> tuple[float, int, float, float]:
    """Seconds, outputs, and resident memory (MB) before and at the peak."""
    engine = vpl.compile_source(PROGRAMS[name]).start()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: that of the fork is not ours
    before, outputs = _resident_mb("VmRSS"), 0
    loads, dumps, process = orjson.loads, orjson.dumps, engine.process
    start = time.perf_counter()
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines):
            event = loads(line)
            process(event["event_type"], event["fields"], event["timestamp"])
            if number % 1000 == 999:
                for _, event_type, fields, ts in engine.take():
                    dumps({"event_type": event_type, "timestamp": ts, "fields": fields})
                    outputs += 1
    seconds = time.perf_counter() - start
    return seconds, outputs + len(engine.take()), before, _resident_mb("VmHWM")


def _resident_mb(what: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024
