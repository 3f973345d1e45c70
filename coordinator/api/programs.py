"""What is checked of a group before anything is replicated: its shape, its routes, and every program in it.

Programs are compiled in a thread, so that a large one does not hold up heartbeats and elections.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple, NoReturn

from proto_schemas.errors import Diagnostic, ErrorCode, WireError
from proto_schemas.rest import GroupSpec
from proto_schemas.subjects import EXTERNAL, check_id, check_publishable
from vpl import Diagnostic as Finding
from vpl import VplError, check_source, compile_source


class Programs(NamedTuple):
    """By pipeline: the event types it takes from outside, and the registered connectors it names."""

    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]]


async def check_group(spec: GroupSpec, prefix: str, registered: Collection[str] = ()) -> Programs:
    """What the programs of a group need. `prefix`: of the cluster's own subjects; `registered`: names of
    connectors they may use without declaring them.

    Raises:
        WireError: 400 for a shape that does not hold, 422 `parse_error` with every finding in every program.
    """
    _check_pipelines(spec)
    _check_routes(spec, prefix)
    return await asyncio.to_thread(_compile, spec, frozenset(registered))


async def diagnose(source: str, registered: Collection[str] = ()) -> list[Diagnostic]:
    """Every finding in one program; `registered` as above."""
    findings = await asyncio.to_thread(check_source, source, frozenset(registered))
    return [_wire(finding) for finding in findings]


def _check_pipelines(spec: GroupSpec) -> None:
    if spec.delivery != "at_most_once":
        _refuse(f"$.delivery: {spec.delivery} is not available in this version: use at_most_once")
    twice = [name for name, count in Counter(p.name for p in spec.pipelines).items() if count > 1]
    if twice:
        _refuse(f"$.pipelines: {twice[0]!r} is there twice: give each pipeline a name of its own")
    for number, pipeline in enumerate(spec.pipelines):
        path = f"$.pipelines[{number}]"
        if pipeline.name == EXTERNAL:
            _refuse(f"{path}.name: {EXTERNAL} means events from outside: choose another name")
        if pipeline.replicas > 1:
            _refuse(f"{path}.replicas: {pipeline.replicas} is not available in this version: leave it at 1")
        for name in ("partition_key", "constraints"):
            if getattr(pipeline, name) is not None:
                _refuse(f"{path}.{name}: not available in this version: leave it out")
        if pipeline.worker_affinity is not None:
            _checked(f"{path}.worker_affinity", check_id, pipeline.worker_affinity)


def _check_routes(spec: GroupSpec, prefix: str) -> None:
    names = {pipeline.name for pipeline in spec.pipelines}
    for number, route in enumerate(spec.routes):
        path = f"$.routes[{number}]"
        if route.from_pipeline not in names | {EXTERNAL}:
            _refuse(f"{path}.from_pipeline: there is no pipeline {route.from_pipeline!r} in this group")
        if route.to_pipeline not in names:
            _refuse(f"{path}.to_pipeline: there is no pipeline {route.to_pipeline!r} in this group")
        if not route.event_types:
            _refuse(f"{path}.event_types: empty: name at least one type, or '*'")
        if route.nats_subject is not None:
            _checked(f"{path}.nats_subject", check_publishable, route.nats_subject)
            _check_open(f"{path}.nats_subject", route.nats_subject, prefix)


def _check_open(path: str, subject: str, prefix: str) -> None:
    """An event there would be read as a command, an answer or a call of the server's."""
    if f"{subject}.".startswith((f"{prefix}.", "_INBOX.", "$")):
        _refuse(
            f"{path}: {subject[:80]!r} belongs to the cluster or to NATS itself: choose one outside "
            f"{prefix}, _INBOX and $, or leave it out"
        )


def _checked(path: str, check: Callable[[str], str], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        _refuse(f"{path}: {error}")


def _refuse(text: str) -> NoReturn:
    raise WireError(ErrorCode.BAD_REQUEST, f"GroupSpec: {text}")


def _compile(spec: GroupSpec, registered: Collection[str]) -> Programs:
    found = Programs({}, {})
    findings: list[Diagnostic] = []
    broken: list[str] = []
    for pipeline in spec.pipelines:
        try:
            program = compile_source(pipeline.source, registered)
            found.consumes[pipeline.name] = sorted(program.consumes)
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
