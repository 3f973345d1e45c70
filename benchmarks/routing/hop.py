"""What a hop from one pipeline to the next adds to an event's way, beside a bare hop.

An event goes through one pipeline, or through two on two workers; or through one, or two, bare nats-py
callbacks in processes of their own that publish what came. One event is under way at a time. The hop is what
the second one adds: the difference of the medians. The four take turns, a slice each.
"""

import statistics
from contextlib import ExitStack
from typing import Any, Final

from benchmarks import stage
from benchmarks.routing.load import chunk, round_trips, verdict, wait_until_up
from proto_schemas.subjects import EXTERNAL, Subjects

RATIO: Final = 1.3
_SUBJECTS: Final = Subjects()


def measure(events: int, rounds: int) -> dict[str, Any]:
    """`events` of a slice, `rounds` slices each."""
    ways = {
        "one_pipeline": (_SUBJECTS.pipeline("one", EXTERNAL, "first"), "bench.hop.one"),
        "two_pipelines": (_SUBJECTS.pipeline("two", EXTERNAL, "first"), "bench.hop.two"),
        "one_relay": ("bench.hop.in1", "bench.hop.out1"),
        "two_relays": ("bench.hop.in2", "bench.hop.out2"),
    }
    medians: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        url = stack.enter_context(stage.nats_server())
        for name in ("w-0", "w-1"):
            stack.enter_context(stage.worker(url, name=name))
        for heard, told in (
            ways["one_relay"],
            ("bench.hop.in2", "bench.hop.between"),
            ("bench.hop.between", "bench.hop.out2"),
        ):
            stack.enter_context(stage.process("benchmarks.routing.bare", url, "relay", heard, told))
        _deploy(url, "one", "first", "w-0", None, "bench.hop.one")
        _deploy(url, "two", "first", "w-0", "second", None)
        _deploy(url, "two", "second", "w-1", None, "bench.hop.two")
        for subject, out in ways.values():
            wait_until_up(url, chunk(subject), out)
        for _ in range(rounds):
            for name, (subject, out) in ways.items():
                medians[name].append(statistics.median(round_trips(url, subject, out, events)) * 1e6)
    pairs = list(zip(*(medians[name] for name in ways), strict=True))
    ours = [two - one for one, two, _, _ in pairs]
    bare = [two - one for _, _, one, two in pairs]
    ratio = statistics.median(ours) / statistics.median(bare)
    return {
        "hop_us": round(statistics.median(ours), 1),
        "bare_hop_us": round(statistics.median(bare), 1),
        "ratio": verdict(round(ratio, 3), RATIO, at_most=True),
        "p50_us": {name: round(statistics.median(taken), 1) for name, taken in medians.items()},
        "slices": {"hop": [round(each, 1) for each in ours], "bare": [round(each, 1) for each in bare]},
    }


def _deploy(url: str, group: str, name: str, worker: str, to: str | None, subject: str | None) -> None:
    route = {"from_pipeline": name, "to_pipeline": to or "x", "event_types": ["*"]}
    if subject is not None:
        route["nats_subject"] = subject
    taken = "Door" if name == "first" else "Held"
    source = f"stream {'Held' if name == 'first' else 'Last'} = {taken}.where(held_ms > 30000)"
    source += ".emit(badge: badge, held_ms: held_ms)"
    stage.deploy(url, {"name": name, "source": source, "group": group, "routes": [route]}, worker)
