"""Which subjects a route may name."""

import pytest

from coordinator.api.programs import check_group
from proto_schemas.errors import WireError
from proto_schemas.messages import Route
from proto_schemas.rest import GroupSpec, PipelineSpec

PREFIX = "plant.seven"


def spec(subject: str) -> GroupSpec:
    route = Route(from_pipeline="p", to_pipeline="p", event_types=["*"], nats_subject=subject)
    pipeline = PipelineSpec(name="p", source="stream Out = In.where(x > 0).emit(x: x)")
    return GroupSpec(name="g", pipelines=[pipeline], routes=[route], allow_cycles=True)


@pytest.mark.parametrize(
    "subject",
    [
        "plant.seven",
        "plant.seven.cmd.worker-1.drain",
        "plant.seven.raft.c0.append",
        "plant.seven.pipeline.other.a.b",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.INFO",
        "_INBOX.worker-1",
        "_INBOX",
    ],
)
async def test_a_route_to_a_subject_of_the_cluster_or_of_nats_is_refused_with_its_path(subject: str) -> None:
    with pytest.raises(WireError, match=r"\$\.routes\[0\]\.nats_subject.*choose one outside") as caught:
        await check_group(spec(subject), PREFIX)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "subject", ["plant", "plant.seventeen.x", "plants.out", "varpulis.cluster.x", "a.$b"]
)
async def test_a_route_to_any_other_subject_is_taken(subject: str) -> None:
    assert await check_group(spec(subject), PREFIX) == ({"p": ["In"]}, {})
