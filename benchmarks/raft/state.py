"""The coordinators' own state as large as a benchmark wants it, and one of their commands."""

from typing import Final

from coordinator.state.commands import Announce, encode_command
from coordinator.state.model import State
from coordinator.state.records import Phase, Placement, Worker
from coordinator.state.results import Done, Remembered
from coordinator.state.versions import Group
from proto_schemas.rest.groups import GroupSpec, PipelineSpec

RECORDS: Final = 10_000


def small_command() -> bytes:
    """A command of some 200 bytes that every state takes."""
    return encode_command(Announce(at=1, by="benchmark", node_id="c1", url="u" * 150))


def filled(megabytes: int) -> State:
    """A state whose snapshot has about that size: `RECORDS` of each kind, the rest in programs' sources."""
    state = State()
    source = "x" * max(10, megabytes * 1_000_000 // RECORDS - 300)
    for number in range(RECORDS):
        name = f"{number:05d}"
        spec = GroupSpec(name=f"g{name}", pipelines=[PipelineSpec(name="p", source=source)])
        state.groups[spec.name] = Group(spec=spec, consumes={"p": ["In"]}, created_at=number)
        running = Placement(phase=Phase.RUNNING, epoch=number, worker_id=f"w{name}", pipeline_id=f"p{name}")
        state.placements[spec.name] = {"p": running}
        state.workers[f"w{name}"] = Worker(
            id=f"w{name}",
            session=number,
            address=f"10.0.0.1:{number}",
            cpu_cores=4,
            max_pipelines=10,
            registered_at=number,
        )
        state.remembered[f"request-{name}"] = Remembered(f"CreateGroup g{name}", Done(), number)
    return state
