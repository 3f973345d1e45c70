"""The control plane under many workers and pipelines: `python -m benchmarks control`.

A real nats-server, three real coordinators that sync their journals, and simulated workers that speak the
wire (`fleet`), all on one machine, whose cores they share with the load. Each part is a module that says what
it measures and how. Data lies in the system's temporary directory (`TMPDIR`).

`python -m benchmarks.control.page FILE.json... docs/figures/` turns the output, of one run or of several that
ran a part each, into figures and the tables of docs/scale.md.
"""

from collections.abc import Callable
from typing import Any, Final

from benchmarks import WrongUsage
from benchmarks.raft import measured, numbers, on_loop

PARTS: Final = "registrations,heartbeats,rates,deploys,deaths,reads,state,by_workers,by_pipelines,by_deaths"


def run(
    parts: str = PARTS,
    registrations: int = 5_000,
    fleets: str = "1000,10000",
    pipelines: int = 4_000,
    deaths: int = 1_000,
    rounds: int = 10,
    seconds: float = 15.0,
    read_seconds: float = 5.0,
    rate_seconds: float = 4.0,
    largest_fleet: int = 8_000,
    largest_load: int = 4_000,
    largest_death: int = 2_000,
) -> dict[str, Any]:
    """Figures of the parts named in `parts`.

    Args:
        registrations: workers that join.
        fleets: numbers of workers whose heartbeats are measured; pipelines: that run meanwhile.
        deaths: pipelines of the worker that dies.
        rounds: groups that are deployed.
        seconds: of heartbeats; read_seconds: of reads of each route; rate_seconds: of each rate.
        largest_fleet, largest_load, largest_death: workers, pipelines, and pipelines of a worker that dies up
            to which growth is measured; also at a half, a quarter and an eighth. The heartbeat of a
            worker with more than some 2,800 pipelines goes in parts, as a real one's does.

    Raises:
        WrongUsage: a part that does not exist, or numbers that are none.
    """
    from benchmarks.control import deaths as dead
    from benchmarks.control import deploys, growth, heartbeats, rates, reads, state
    from benchmarks.control import registrations as joining

    counts = numbers(fleets)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "registrations": lambda: on_loop(joining.measure(count=registrations)),
        "heartbeats": lambda: on_loop(
            heartbeats.measure(pipelines=pipelines, seconds=seconds, fleets=counts)
        ),
        "rates": lambda: on_loop(
            rates.measure(
                few=largest_fleet // 8, pipelines=pipelines, many=largest_fleet, seconds=rate_seconds
            )
        ),
        "deploys": lambda: on_loop(deploys.measure(rounds=rounds)),
        "deaths": lambda: on_loop(dead.measure(pipelines=deaths)),
        "reads": lambda: on_loop(reads.measure(seconds=read_seconds)),
        "state": lambda: state.measure(largest=largest_fleet),
        "by_workers": lambda: on_loop(growth.by_workers(largest=largest_fleet, seconds=seconds)),
        "by_pipelines": lambda: on_loop(growth.by_pipelines(largest=largest_load, seconds=seconds)),
        "by_deaths": lambda: on_loop(growth.by_deaths(largest=largest_death)),
    }
    wanted = parts.split(",")
    for part in wanted:
        if part not in measures:
            raise WrongUsage(f"no part {part!r}: use some of {PARTS}")
    return {part: measured(measures[part]) for part in wanted}
