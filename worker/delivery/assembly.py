"""Which programs and workers a stream can be promised for, and the feed of a copy.

What cannot keep the promise is refused when it is deployed, with the reason, and not when it breaks.
"""

from collections.abc import Sequence

from proto_schemas.delivery import AT_MOST_ONCE, EXACTLY_ONCE, unfit
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy, Route
from proto_schemas.subjects import EXTERNAL, Subjects
from transport.jetstream import JetStream
from transport.nats import NatsTransport
from worker.delivery.feed import Feed, Names
from worker.pipeline import Pipeline
from worker.routes import OutputRoutes, input_subjects


def is_streamed(wanted: Deploy) -> bool:
    """Its events come from a stream."""
    return wanted.delivery not in (None, AT_MOST_ONCE)


def check_worker(wanted: Deploy, bus: NatsTransport | None, *, shared_store: bool) -> None:
    """Refuse here what another worker may take.

    Raises:
        WireError: `carrier_missing`, this worker has no NATS; `unavailable`, nobody could go on from its
            checkpoints; `bad_request`, no group.
    """
    if not is_streamed(wanted):
        return
    if not wanted.group:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"{wanted.name}: delivery {wanted.delivery} needs a group, which has the stream",
        )
    if bus is None:
        raise WireError(
            ErrorCode.CARRIER_MISSING,
            f"{wanted.name}: delivery {wanted.delivery} reads a stream, and this worker has no NATS: "
            "place it on a worker with NATS",
        )
    if not shared_store:
        raise WireError(
            ErrorCode.UNAVAILABLE,
            f"{wanted.name}: delivery {wanted.delivery} needs checkpoints that other workers can read: "
            "start this worker with --checkpoint-store jetstream, or dir:PATH",
        )


def give_feed(
    pipeline: Pipeline, wanted: Deploy, bus: NatsTransport, subjects: Subjects, routes: OutputRoutes
) -> None:
    """Have the copy read and write the stream of its group.

    Raises:
        WireError: `bad_request`, its program cannot keep the promise.
    """
    program, group, delivery = pipeline.program, pipeline.group, wanted.delivery or ""
    sinks = [sink.connector for sink in program.sinks if sink.connector is not None]
    if fault := unfit(delivery, [source.connector for source in program.sources], sinks):
        raise WireError(ErrorCode.BAD_REQUEST, f"{wanted.name}: {fault}")
    heard = _inputs(subjects, wanted, wanted.routes or [])
    names = Names(
        stream=subjects.stream(group),
        inputs=heard,
        marks=subjects.progress(group, pipeline.name),
        outside=subjects.pipeline(group, pipeline.name, EXTERNAL),
    )
    exact = delivery == EXACTLY_ONCE
    pipeline.feed = Feed(pipeline, JetStream(bus), names, routes, exact=exact)


def _inputs(subjects: Subjects, wanted: Deploy, routes: Sequence[Route]) -> Sequence[str]:
    try:
        return input_subjects(subjects, wanted.group or "", wanted.name, routes, wanted.instance)
    except ValueError as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{wanted.name}: {error}") from None
