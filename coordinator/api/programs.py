"""What is checked of a group before anything is replicated: its shape, its routes, and every program in it.

Programs are compiled in a thread, so that a large one does not hold up heartbeats and elections.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from coordinator.api.shape import check_shape, refuse
from coordinator.declared import faults, secrets_written
from coordinator.state.records import Connector
from coordinator.state.versions import Group
from proto_schemas.delivery import unfit
from proto_schemas.errors import Diagnostic, ErrorCode, WireError
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from vpl import Diagnostic as Finding
from vpl import Program, VplError, check_source, compile_source
from vpl.division import Undivided

QUEUE_GROUP: Final = "queue_group"


class Programs(NamedTuple):
    """By pipeline: the event types it takes from outside, the registered connectors it names, and why its
    state cannot be divided by its key."""

    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]]
    undivided: dict[str, str]


async def check_group(
    spec: GroupSpec, prefix: str, registered: Mapping[str, Connector] | None = None
) -> Programs:
    """What the programs of a group need. `prefix`: of the cluster's own subjects; `registered`: connectors
    they may use without declaring them, by name.

    Raises:
        WireError: 400 for a shape that does not hold, 422 `parse_error` with every finding in every program.
    """
    check_shape(spec, prefix)
    return await asyncio.to_thread(_compile, spec, registered or {}, new=True)


async def undivided(spec: GroupSpec, registered: Mapping[str, Connector]) -> dict[str, str]:
    """Of programs that run: `Programs.undivided`."""
    if not any(pipeline.partition_key is not None for pipeline in spec.pipelines):
        return {}
    try:
        return (await asyncio.to_thread(_compile, spec, registered)).undivided
    except WireError as error:
        return {pipeline.name: f"its program cannot be read any more: {error}" for pipeline in spec.pipelines}


async def diagnose(source: str, registered: Mapping[str, Connector] | None = None) -> list[Diagnostic]:
    """Every finding in one program; `registered`: connectors it may use without declaring them."""
    types = {name: connector.connector_type for name, connector in (registered or {}).items()}
    findings = await asyncio.to_thread(_checked, source, types)
    return [_wire(finding) for finding in findings]


async def sharers_by_key(groups: Iterable[Group], connector: str) -> list[str]:
    """The pipelines, as `group/pipeline`, whose instances share by key what a registered connector brings: it
    may have no queue group. Both versions of a group that is being updated are looked at."""
    versions = [each for group in groups for each in (group, group.former) if each is not None]
    asked = [
        (f"{group.spec.name}/{pipeline.name}", pipeline.source, tuple(group.connectors[pipeline.name]))
        for group in versions
        for pipeline in group.spec.pipelines
        if _shares_by_key(pipeline) and connector in group.connectors.get(pipeline.name, ())
    ]
    return await asyncio.to_thread(_readers, asked, connector) if asked else []


def _readers(asked: list[tuple[str, str, tuple[str, ...]]], connector: str) -> list[str]:
    found: dict[str, None] = {}
    for name, source, registered in asked:
        program = compile_source(source, frozenset(registered))
        if any(each.connector == connector for each in program.sources):
            found[name] = None
    return list(found)


def _shares_by_key(pipeline: PipelineSpec) -> bool:
    return pipeline.partition_key is not None and pipeline.replicas > 1


def _check_sources(
    number: int, pipeline: PipelineSpec, program: Program, registered: Mapping[str, Connector]
) -> None:
    """A queue group of the user's gives an event to one instance, whether or not it owns the key."""
    connector = _with_queue_group(program, registered)
    if _shares_by_key(pipeline) and connector is not None:
        refuse(
            f"$.pipelines[{number}].partition_key: the source on connector {connector} has a queue_group, "
            "which would give most events to an instance that must not keep them: leave one of the two out"
        )


def _with_queue_group(program: Program, registered: Mapping[str, Connector]) -> str | None:
    """A connector from which it reads in a queue group of the user's."""
    for source in program.sources:
        connector = program.connectors.get(source.connector) or registered.get(source.connector)
        if QUEUE_GROUP in source.params or (connector is not None and QUEUE_GROUP in connector.params):
            return source.connector
    return None


def _undivided(program: Program, key: str, registered: Mapping[str, Connector]) -> str:
    try:
        program.divided_by(key)
    except Undivided as error:
        return str(error)
    connector = _with_queue_group(program, registered)
    return f"its source on connector {connector} has a queue_group" if connector is not None else ""


def _declared(source: str, program: Program, types: Mapping[str, str]) -> Iterator[Finding]:
    yield from list(secrets_written(source, program)) or faults(source, program, types)


def _checked(source: str, types: Mapping[str, str]) -> list[Finding]:
    registered = frozenset(types)
    findings = check_source(source, registered)
    if any(finding.severity == "error" for finding in findings):
        return findings
    return [*findings, *faults(source, compile_source(source, registered), types)]


def _compile(spec: GroupSpec, registered: Mapping[str, Connector], *, new: bool = False) -> Programs:
    """`new`: what is refused in a program that comes, too."""
    found = Programs({}, {}, {})
    findings: list[Diagnostic] = []
    broken: list[str] = []
    types = {name: connector.connector_type for name, connector in registered.items()}
    for number, pipeline in enumerate(spec.pipelines):
        try:
            program = compile_source(pipeline.source, frozenset(registered))
            if new and (wrong := list(_declared(pipeline.source, program, types))):
                raise VplError(wrong)
            _check_sources(number, pipeline, program, registered)
            sinks = [sink.connector for sink in program.sinks if sink.connector is not None]
            if fault := unfit(spec.delivery, [source.connector for source in program.sources], sinks):
                refuse(f"$.pipelines[{number}].source: {fault}")
            found.consumes[pipeline.name] = sorted(program.consumes)
            key = pipeline.partition_key
            if key is not None and (why := _undivided(program, key, registered)):
                found.undivided[pipeline.name] = why
            if program.registered:
                found.connectors[pipeline.name] = sorted(program.registered)
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
    return found


def _wire(finding: Finding, prefix: str = "") -> Diagnostic:
    return Diagnostic(
        severity=finding.severity,
        line=finding.line,
        column=finding.column,
        message=prefix + finding.message,
        hint=finding.hint,
    )
