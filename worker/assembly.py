"""From a deploy to a pipeline that is not started yet: compiled, its connectors checked, its routes worked
out.
"""

import asyncio
import re
import secrets
from collections.abc import Collection

from proto_schemas.errors import Diagnostic, ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.membership import RunningPipeline
from proto_schemas.subjects import Subjects
from transport.durations import Durations
from transport.nats import NatsTransport
from vpl import ConnectorDecl, Program, VplError, compile_source
from worker.budget import Limits
from worker.connectors.base import ConnectorError, Site
from worker.connectors.registry import ConnectorRegistry
from worker.delivery.assembly import give_feed, is_streamed
from worker.inputs import Inputs, Line
from worker.intake import Intake
from worker.lease import Permit
from worker.pipeline import Pipeline
from worker.relay import Relay
from worker.routes import OutputRoutes, RouteSink, lines_of, needs_nats
from worker.watchdog import Watchdog


async def assemble(
    wanted: Deploy,
    bus: NatsTransport | None,
    subjects: Subjects,
    permit: Permit,
    site: Site,
    limits: Limits | None = None,
    watchdog: Watchdog | None = None,
    latency: Durations | None = None,
) -> Pipeline:
    """The copy that `wanted` describes; nothing is connected yet. Without a `bus` it hears its sources alone.

    Raises:
        WireError: `parse_error` with diagnostics, `bad_request`, `carrier_missing`.
    """
    registered = [connector.name for connector in wanted.connectors or ()]
    program = await asyncio.to_thread(_compile, wanted.source, registered)
    group, routes, instance = wanted.group or "", wanted.routes or [], wanted.instance
    base = instance.of if instance is not None else wanted.name
    if bus is None and (needed := needs_nats(base, routes)):
        raise WireError(
            ErrorCode.CARRIER_MISSING,
            f"{wanted.name}: its route {needed} goes over NATS, and this worker has none: "
            "place it on a worker with NATS",
        )
    try:
        connectors = ConnectorRegistry.from_configs(_connectors(wanted, program), site)
        if instance is not None and instance.key and (name := connectors.handed_out(program.sources)):
            raise ConnectorError(
                f"connector {name}: of a durable source one instance gets each message, which need not own "
                "its key: leave out partition_key, or lead the events in by a route"
            )
        queue = wanted.queue or ""
        lines = (
            lines_of(subjects, group, wanted.name, routes, instance, queue) if group else [Line(queue, ())]
        )
        if bus is None or is_streamed(wanted):
            lines = [line._replace(subjects=(), sources=not is_streamed(wanted)) for line in lines]
        outputs = OutputRoutes(subjects, group, base, routes if group else (), wanted.partitions)
        intake = Intake(subjects, group, wanted.name, routes, instance) if group else None
    except (ConnectorError, ValueError) as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{wanted.name}: {error}") from None
    identity = RunningPipeline(
        pipeline_id=_new_id(wanted.name), group=group, name=wanted.name, epoch=wanted.epoch or 0
    )
    pipeline = Pipeline(
        identity,
        program,
        connectors,
        Inputs(bus, connectors, program.sources, lines),
        RouteSink(bus, outputs) if outputs and bus is not None else None,
        permit,
        intake=intake or None,
        relay=Relay(bus, subjects, group, base) if bus is not None else None,
        held=wanted.hold,
        life=wanted.life or 0,
        checkpoint_secs=wanted.checkpoint_secs,
        limits=limits,
        watchdog=watchdog,
        latency=latency,
    )
    if bus is not None and is_streamed(wanted):
        give_feed(pipeline, wanted, bus, subjects, outputs)
    return pipeline


def _connectors(wanted: Deploy, program: Program) -> dict[str, ConnectorDecl]:
    """Those the program declares, and of the registered ones those it names and does not declare."""
    registered = {
        each.name: ConnectorDecl(each.name, each.connector_type, each.params)
        for each in wanted.connectors or ()
        if each.name in program.registered
    }
    return {**registered, **program.connectors}


def _compile(source: str, registered: Collection[str]) -> Program:
    try:
        return compile_source(source, registered)
    except VplError as error:
        diagnostics = [
            Diagnostic(
                severity=each.severity,
                line=each.line,
                column=each.column,
                message=each.message,
                hint=each.hint,
            )
            for each in error.diagnostics
        ]
        raise WireError(ErrorCode.PARSE_ERROR, str(error), diagnostics=diagnostics) from None


def _new_id(name: str) -> str:
    return f"{re.sub('[^A-Za-z0-9_-]', '_', name)[:64]}-{secrets.token_hex(4)}"
