"""From a deploy to a pipeline that is not started yet: compiled, its connectors checked, its routes worked
out.
"""

import asyncio
import re
import secrets

from proto_schemas.errors import Diagnostic, ErrorCode, WireError
from proto_schemas.messages import Deploy, RunningPipeline
from proto_schemas.subjects import Subjects
from transport.nats import NatsTransport
from vpl import Program, VplError, compile_source
from worker.connectors.base import ConnectorError
from worker.connectors.registry import ConnectorRegistry
from worker.inputs import Inputs
from worker.lease import Lease
from worker.pipeline import Pipeline
from worker.routes import OutputRoutes, RouteSink, input_subjects


async def assemble(wanted: Deploy, bus: NatsTransport, subjects: Subjects, lease: Lease) -> Pipeline:
    """The copy that `wanted` describes; nothing is connected yet.

    Raises:
        WireError: `parse_error` with diagnostics, `bad_request`.
    """
    program = await asyncio.to_thread(_compile, wanted.source)
    group, routes = wanted.group or "", wanted.routes or []
    try:
        connectors = ConnectorRegistry.from_configs(program.connectors)
        inputs = input_subjects(subjects, group, wanted.name, routes) if group else ()
        outputs = OutputRoutes(subjects, group, wanted.name, routes if group else ())
    except (ConnectorError, ValueError) as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"{wanted.name}: {error}") from None
    identity = RunningPipeline(
        pipeline_id=_new_id(wanted.name), group=group, name=wanted.name, epoch=wanted.epoch or 0
    )
    return Pipeline(
        identity,
        program,
        connectors,
        Inputs(bus, connectors, program.sources, inputs, wanted.queue or ""),
        RouteSink(bus, outputs) if outputs else None,
        lease,
        held=wanted.hold,
    )


def _compile(source: str) -> Program:
    try:
        return compile_source(source)
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
