"""What is checked of a group before anything is replicated: its shape, its routes, and every program in it.

Programs are compiled in a thread, so that a large one does not hold up heartbeats and elections.
"""

import asyncio

from coordinator.api.shape import check_shape, refuse
from proto_schemas.errors import Diagnostic, ErrorCode, WireError
from proto_schemas.rest import GroupSpec, PipelineSpec
from vpl import Diagnostic as Finding
from vpl import Program, VplError, check_source, compile_source


async def check_group(spec: GroupSpec, prefix: str) -> dict[str, list[str]]:
    """The event types each pipeline takes from outside. `prefix`: of the cluster's own subjects.

    Raises:
        WireError: 400 for a shape that does not hold, 422 `parse_error` with every finding in every program.
    """
    check_shape(spec, prefix)
    return await asyncio.to_thread(_compile, spec)


async def diagnose(source: str) -> list[Diagnostic]:
    """Every finding in one program."""
    findings = await asyncio.to_thread(check_source, source)
    return [_wire(finding) for finding in findings]


def _check_sources(number: int, pipeline: PipelineSpec, program: Program) -> None:
    """A queue group of the user's gives an event to one instance, whether or not it owns the key."""
    if pipeline.partition_key is None or pipeline.replicas == 1:
        return
    for source in program.sources:
        connector = program.connectors.get(source.connector)
        if "queue_group" in source.params or (connector is not None and "queue_group" in connector.params):
            refuse(
                f"$.pipelines[{number}].partition_key: the source on connector {source.connector} has a "
                "queue_group, which would give most events to an instance that must not keep them: leave one "
                "of the two out"
            )


def _compile(spec: GroupSpec) -> dict[str, list[str]]:
    consumes: dict[str, list[str]] = {}
    findings: list[Diagnostic] = []
    broken: list[str] = []
    for number, pipeline in enumerate(spec.pipelines):
        try:
            program = compile_source(pipeline.source)
            _check_sources(number, pipeline, program)
            consumes[pipeline.name] = sorted(program.consumes)
        except VplError as error:
            broken.append(pipeline.name)
            findings.extend(_wire(finding, f"pipeline {pipeline.name}: ") for finding in error.diagnostics)
    if findings:
        first = findings[0]
        raise WireError(
            ErrorCode.PARSE_ERROR,
            f"{len(findings)} findings in {', '.join(broken)}; the first: "
            f"line {first.line}, column {first.column}: {first.message}"
            + (f" ({first.hint})" if first.hint else ""),
            diagnostics=findings,
        )
    return consumes


def _wire(finding: Finding, prefix: str = "") -> Diagnostic:
    return Diagnostic(
        severity=finding.severity,
        line=finding.line,
        column=finding.column,
        message=prefix + finding.message,
        hint=finding.hint,
    )
