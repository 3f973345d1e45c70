"""Groups to deploy: their shapes, and what follows from a spec. Pure.

Every pipeline takes the same numbered events (`IN`) and puts each out once, on a subject of its own, with the
`version` of its program; of a pipeline with replicas one instance does. Data does not go through the links
that are cut, so a worker that is cut off still could put out: only its lease keeps it from that.
"""

import random
from typing import Any, Final

from proto_schemas.partition import instance_names

IN: Final = "chaos.in"
OUT: Final = "chaos.out"
ZONES: Final = ("east", "west")
Spec = dict[str, Any]


def program(nats_url: str, group: str, name: str, version: int) -> str:
    """Takes the numbered events themselves."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Ticks = Tick.from(Bus, topic: "{IN}")
stream Outs = Ticks.emit(n: n, v: {version}).to(Bus, topic: "{OUT}.{group}.{name}")
"""


def _first(nats_url: str) -> str:
    """Passes the numbered events on to the next pipeline of its group."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Ticks = Tick.from(Bus, topic: "{IN}")
stream Passed = Ticks.emit(n: n)
"""


def _second(nats_url: str, group: str, name: str, version: int) -> str:
    """Takes what the first passes on."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Outs = Passed.emit(n: n, v: {version}).to(Bus, topic: "{OUT}.{group}.{name}")
"""


def shape(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    """A group of one kind or another. A chain is updated to a chain: `rng` may choose its details only."""
    kind = rng.choice(("plain", "plain", "zoned", "shared", "keyed", "chain"))
    return _MAKE[kind](rng, nats_url, name, version)


def changed(rng: random.Random, spec: Spec, nats_url: str, version: int) -> Spec:
    """Another version of a group: other programs, and at times other numbers of replicas; where they share by
    key, either."""
    keyed = spec["pipelines"][0]
    if "partition_key" in keyed and rng.random() < 0.7:
        count = rng.choice([n for n in (1, 2, 3, 4) if n != keyed.get("replicas", 1)])
        return {**spec, "pipelines": [{**keyed, "replicas": count}]}
    pipelines = []
    for pipeline in spec["pipelines"]:
        new = dict(pipeline)
        if "chaos.out" in new["source"]:
            make = program if "chaos.in" in new["source"] else _second
            new["source"] = make(nats_url, spec["name"], new["name"], version)
        if new.get("replicas", 1) > 1 and "partition_key" not in new:
            new["replicas"] = rng.choice((2, 3))
        pipelines.append(new)
    return {**spec, "pipelines": pipelines}


def instances(spec: Spec) -> set[str]:
    """The instances that must run."""
    return {
        instance
        for pipeline in spec["pipelines"]
        for instance in instance_names(pipeline["name"], pipeline.get("replicas", 1))
    }


def outputs(spec: Spec) -> list[str]:
    """The pipelines whose outputs are heard."""
    return [pipeline["name"] for pipeline in spec["pipelines"] if "chaos.out" in pipeline["source"]]


def _plain(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    names = ["a", "b", "c"][: rng.randint(1, 3)]
    pipelines = [{"name": each, "source": program(nats_url, name, each, version)} for each in names]
    return {"name": name, "pipelines": pipelines, "strategy": rng.choice((None, "spread", "binpack"))}


def _zoned(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    spec = _plain(rng, nats_url, name, version)
    for pipeline in spec["pipelines"]:
        zone = {"label": "zone", "op": "=", "value": rng.choice(ZONES), "hard": rng.random() < 0.7}
        pipeline["constraints"] = [zone]
    return spec


def _shared(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    """Instances that share their events without a key."""
    apart = {"distinct_workers": rng.choice(("hard", "soft"))}
    source = program(nats_url, name, "a", version)
    pipeline = {"name": "a", "source": source, "replicas": rng.choice((2, 3)), "constraints": [apart]}
    return {"name": name, "pipelines": [pipeline]}


def _keyed(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    source = program(nats_url, name, "a", version)
    pipeline = {"name": "a", "source": source, "replicas": rng.choice((1, 2, 3)), "partition_key": "n"}
    return {"name": name, "pipelines": [pipeline]}


def _chain(rng: random.Random, nats_url: str, name: str, version: int) -> Spec:
    pipelines = [
        {"name": "first", "source": _first(nats_url)},
        {"name": "second", "source": _second(nats_url, name, "second", version)},
    ]
    route = {"from_pipeline": "first", "to_pipeline": "second", "event_types": ["*"]}
    return {"name": name, "pipelines": pipelines, "routes": [route]}


_MAKE: Final = {"plain": _plain, "zoned": _zoned, "shared": _shared, "keyed": _keyed, "chain": _chain}
