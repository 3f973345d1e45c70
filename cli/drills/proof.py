"""What runs, what goes in, and what must come out. Pure: the programs run here without a cluster.

Two pipelines in a row: a filter, then a keyed window and a sequence. To try others, give other `PROGRAMS`:
the first takes `In`, and what the last one emits is looked at. The time of the events runs fast, and the
windows are long by the clock: so they close by events, and what is in them does not depend on how long a
fault lasts. The closings by the timer have tests of their own (`tests.integration.test_delivery`).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from proto_schemas.codec import encode_fields
from proto_schemas.partition import instance_names
from vpl import compile_source

GROUP: Final = "proof"
KEYS: Final = 7
STEP_MS: Final = 20_000
"""Between two events of one key, so that a window of ten minutes holds thirty."""
PROGRAMS: Final = {
    "clean": "stream Clean = In.where(n % 10 != 3).emit(k: k, n: n, even: n % 2 == 0)",
    "sums": """
stream Cleaned = Clean
    .partition_by(k)
    .window(10m)
    .aggregate(k: last(k), first: first(n), count: count(), total: sum(n), most: max(n))
    .emit(k: k, first: first, count: count, total: total, most: most)
stream Rises = Clean where n % 30 == 0 as a
    -> all Clean where n % 4 == a.n % 4 as between
    -> Clean where n > a.n + 60 as b
    .within(10m).partition_by(k).not(Clean where n % 97 == 0)
    .emit(k: b.k, from: a.n, to: b.n, count: count(between), total: sum(between.n))
""",
}
LAST: Final = tuple(PROGRAMS)[-1]

Event = tuple[str, dict[str, Any], int]


def spec(delivery: str, replicas: int = 1) -> dict[str, Any]:
    """The group, for the API; `replicas`: instances of the last pipeline, which share by key."""
    names = list(PROGRAMS)
    shared = {"replicas": replicas, "partition_key": "k"} if replicas > 1 else {}
    routes = [("_external", names[0]), *pairwise(names)]
    return {
        "name": GROUP,
        "delivery": delivery,
        "pipelines": [
            {"name": name, "source": source, "checkpoint_secs": 1.0, **(shared if name == LAST else {})}
            for name, source in PROGRAMS.items()
        ],
        "routes": [
            {"from_pipeline": sender, "to_pipeline": taker, "event_types": ["*"]} for sender, taker in routes
        ],
    }


def instances(replicas: int) -> list[str]:
    """What runs."""
    return [*list(PROGRAMS)[:-1], *instance_names(LAST, replicas)]


def event(number: int) -> Event:
    """The event of that number."""
    return "In", {"n": number, "k": f"k{number % KEYS}"}, number // KEYS * STEP_MS


def encoded(number: int) -> bytes:
    """The same, as it is sent."""
    event_type, fields, ts = event(number)
    return encode_fields({"event_type": event_type, "timestamp": ts, "fields": fields})


def outputs(count: int) -> list[dict[str, Any]]:
    """What the programs put out of the first `count` events."""
    events: Iterator[Event] = map(event, range(count))
    for source in PROGRAMS.values():
        events = _through(source, events)
    return [fields for _, fields, _ in events]


def _through(source: str, events: Iterator[Event]) -> Iterator[Event]:
    engine = compile_source(source).start()
    for event_type, fields, ts in events:
        engine.process(event_type, fields, ts)
        yield from ((made_type, made, at) for sink_id, made_type, made, at in engine.take() if sink_id < 0)
