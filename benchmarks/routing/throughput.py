"""Events a second through a filter in one worker, and through the same filter as a bare nats-py callback.

Worker and bare loop take turns, a slice each; a ratio is the median of the slices' ratios, since both of a
pair met about the same load. The CPU time of an event is that of the process alone, and hardly depends on
what else the machine does.
"""

import statistics
from typing import Any, Final

from benchmarks import stage
from benchmarks.routing.load import LIMIT, chunk, rate, verdict, wait_until_up

TARGET: Final = 100_000
RATIO: Final = 0.8
SUBJECTS: Final = {
    "worker": ("bench.in.worker", "bench.out.worker"),
    "bare": ("bench.in.bare", "bench.out.bare"),
}


def measure(events: int, rounds: int, passing_percent: int) -> dict[str, Any]:
    """`events` of a slice, `rounds` slices each, of which `passing_percent` pass the filter and come out."""
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    cpu: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    loads = {name: chunk(entry, passing_percent) for name, (entry, _) in SUBJECTS.items()}
    with (
        stage.nats_server() as url,
        stage.worker(url) as worker,
        stage.process("benchmarks.routing.bare", url, "filter", *SUBJECTS["bare"]) as bare,
    ):
        processes = {"worker": worker, "bare": bare}
        stage.deploy(url, {"name": "filter", "source": _program(url)})
        for name, (_, out) in SUBJECTS.items():
            wait_until_up(url, loads[name], out)
        for _ in range(rounds):
            for name, (_, out) in SUBJECTS.items():
                before = sum(processes[name].cpu_times()[:2])
                rates[name].append(rate(url, loads[name], out, events))
                cpu[name].append((sum(processes[name].cpu_times()[:2]) - before) / events * 1e6)
    ratios = [ours / theirs for ours, theirs in zip(rates["worker"], rates["bare"], strict=True)]
    return {
        "worker_events_per_s": verdict(round(statistics.median(rates["worker"])), TARGET),
        "nats_py_events_per_s": round(statistics.median(rates["bare"])),
        "ratio": verdict(round(statistics.median(ratios), 3), RATIO),
        "cpu_us_per_event": {name: round(statistics.median(taken), 2) for name, taken in cpu.items()},
        "slices": {name: [round(each) for each in taken] for name, taken in rates.items()},
    }


def _program(url: str) -> str:
    subject, out = SUBJECTS["worker"]
    return (
        f'connector Bus = nats(servers: "{url}")\n'
        f'stream Held = Door.from(Bus, topic: "{subject}").where(held_ms > {LIMIT})'
        f'.emit(badge: badge, held_ms: held_ms).to(Bus, topic: "{out}")'
    )
