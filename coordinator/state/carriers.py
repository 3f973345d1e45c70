"""Which workers cannot carry what a pipeline needs: events between pipelines go over NATS, and a worker that
speaks REST has none."""

from coordinator.state.model import REST, State


def without_carrier(state: State, group: str, pipeline: str) -> frozenset[str]:
    """Ids of the workers that lack NATS, when the routes of this pipeline need it; else nobody."""
    routes = state.groups[group].spec.routes
    if not any(route.over_nats and pipeline in (route.from_pipeline, route.to_pipeline) for route in routes):
        return frozenset()
    return frozenset(worker.id for worker in state.workers.values() if worker.carrier == REST)


def told(blocked: frozenset[str]) -> str:
    """What a reason says of them; empty when there are none."""
    return f"; {len(blocked)} have no NATS, which its routes need" if blocked else ""
