"""`check`, `run`, `explain`: what can be done with VPL programs without a cluster; `check --cluster` asks
one."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import msgspec

from cli.errors import FAILED, OK, CliError, UsageError
from cli.excerpt import excerpt
from cli.group_file import sources
from cli.invocation import Invocation, Rows, console_on_stdout
from cli.play import Line, Play, TooFar, bounded_lines
from vpl import Diagnostic, Program, check_source, compile_source
from vpl.explain import Explained, explained


def check(call: Invocation) -> int:
    """Every finding of every program in the file; fails when one of them is an error."""
    path = Path(call.arguments["file"])
    programs = sources(path)
    look = _findings_there if call.arguments["cluster"] else _all_findings
    return _found(call, path, {name: (programs[name], look(call, programs[name])) for name in programs})


def run(call: Invocation) -> int:
    """Play a file of events through a program; fails when a line of it is no event."""
    program = _one_program(call)
    if program is None:
        return FAILED
    later = _milliseconds(call.arguments["then"])
    play = Play(program, arrival_ms=time.time_ns() // 1_000_000)
    outputs: list[Line] = []
    keep = outputs.append if call.for_programs else _write
    try:
        with _opened(call.arguments["events"]) as lines:
            for line in play.events(lines):
                keep(line)
        for line in play.later(later):
            keep(line)
    except TooFar as error:
        raise CliError(f"{call.arguments['events']}: {error}") from None
    if call.for_programs:
        call.show(
            {
                "outputs": [{"way": line.way, **line.event()} for line in outputs],
                "counters": play.counters,
                "refused": dict(play.refused),
                "open_until": play.open_until,
            }
        )
    _summary(call, play)
    return FAILED if play.refused else OK


def explain(call: Invocation) -> int:
    """What each stream of a program takes, does and keeps, and the Python made of it."""
    program = _one_program(call)
    if program is None:
        return FAILED
    facts = explained(program)
    python = program.python if call.arguments["code"] or call.for_programs else None
    call.show({**msgspec.to_builtins(facts), "python": python}, *_facts(facts))
    if python is not None and not call.for_programs:
        _show_code(python)
    return OK


# -- what they share


def _registered(call: Invocation) -> list[str]:
    return [name for name in (call.arguments["connectors"] or "").split(",") if name]


def _one_program(call: Invocation) -> Program | None:
    """The program meant, compiled; None when it has errors, which are shown."""
    path, wanted = Path(call.arguments["file"]), call.arguments["pipeline"]
    found = sources(path)
    if wanted is None and len(found) != 1:
        raise UsageError(f"{path} has {len(found)} pipelines: say which, --pipeline {' or '.join(found)}")
    if wanted is not None and wanted not in found:
        raise UsageError(f"{path} has no pipeline {wanted!r}: it has {', '.join(found) or 'none'}")
    name = wanted if wanted is not None else next(iter(found))
    source, findings = found[name], _findings(call, found[name])
    if any(finding.severity == "error" for finding in findings):
        _found(call, path, {name: (source, findings)})
        return None
    for finding in findings:
        call.note(excerpt(str(path), source, finding))
    return compile_source(source, _registered(call))


def _findings(call: Invocation, source: str) -> list[Diagnostic]:
    return check_source(source, _registered(call))


def _all_findings(call: Invocation, source: str) -> list[Diagnostic]:
    """With those of the connectors it declares, which matter where it is deployed."""
    from coordinator.declared import faults

    findings = _findings(call, source)
    if any(finding.severity == "error" for finding in findings):
        return findings
    return [*findings, *faults(source, compile_source(source, _registered(call)))]


def _findings_there(call: Invocation, source: str) -> list[Diagnostic]:
    """What a coordinator finds."""
    with call.connect() as client:
        answer = client.post("/validate", {"source": source})
    return [Diagnostic(**finding) for finding in answer["diagnostics"]]


def _found(call: Invocation, path: Path, programs: dict[str, tuple[str, list[Diagnostic]]]) -> int:
    """Show what is wrong with each program; whether that is an error is the exit code."""
    found = [(name, finding) for name, (_, findings) in programs.items() for finding in findings]
    valid = all(finding.severity != "error" for _, finding in found)
    if call.for_programs:
        remarks = [{"pipeline": name, **asdict(finding)} for name, finding in found]
        call.show({"valid": valid, "diagnostics": remarks})
        return OK if valid else FAILED
    for name, (source, findings) in programs.items():
        where = str(path) if path.suffix == ".vpl" else f"{path}, {name}"
        sys.stdout.writelines(f"{excerpt(where, source, finding)}\n" for finding in findings)
    if not found:
        sys.stdout.write(f"{path}: no mistakes found\n")
    return OK if valid else FAILED


# -- run


def _milliseconds(text: str) -> int:
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    number = text.rstrip("dhms")
    unit = units.get(text[len(number) :])
    if unit is None or not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise UsageError(f"--then {text!r} is no duration: write 500ms, 10s, 5m, 1h or 2d")
    return int(number) * unit


@contextmanager
def _opened(name: str) -> Iterator[Iterable[bytes]]:
    """The lines of a file or of stdin, with a bar on a terminal while a large file is read."""
    if name == "-":
        yield bounded_lines(sys.stdin.buffer)
        return
    try:
        file: BinaryIO = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}: give a file of JSON lines, or -"
        ) from None
    with file:
        if not sys.stderr.isatty():
            yield bounded_lines(file)
            return
        from rich.console import Console
        from rich.progress import wrap_file

        total = Path(name).stat().st_size
        with wrap_file(file, total, description=name, console=Console(stderr=True), transient=True) as shown:
            yield bounded_lines(shown)


def _write(line: Line) -> None:
    sys.stdout.write(f"{line}\n")


def _summary(call: Invocation, play: Play) -> None:
    sys.stdout.flush()
    for number, why in play.first_refused:
        call.note(f"varpulis: line {number} is no event: {why}")
    counts = play.counters
    refused = play.refused.total()
    said = [f"{counts['events_in']:,} events in, {counts['events_out']:,} out"]
    said += [f"{refused:,} lines refused"] if refused else []
    said += [f"{counts['unknown_type']:,} of a type that nothing takes"] if counts["unknown_type"] else []
    said += [f"{counts['mismatches']:,} expressions without value"] if counts["mismatches"] else []
    call.note(f"varpulis: {', '.join(said)}")
    if play.open_until is not None:
        call.note(
            f"varpulis: something is open until {play.open_until}: --then 1h lets an hour pass at the end"
        )


# -- explain


def _facts(facts: Explained) -> list[Rows]:
    about = [
        ("takes from outside", facts.consumes),
        ("subscribes", facts.sources),
        ("emits", facts.emits),
    ]
    streams = [
        (
            stream.name,
            stream.takes,
            " > ".join(stream.stages) or "pass through",
            stream.keeps,
            stream.feeds,
            stream.puts_out,
        )
        for stream in facts.streams
    ]
    return [
        Rows(("PROGRAM", ""), [(name, value) for name, value in about if value]),
        Rows(("STREAM", "TAKES", "STAGES", "KEEPS", "FEEDS", "PUTS OUT"), streams),
    ]


def _show_code(python: str) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write(python)
        return
    from rich.syntax import Syntax

    console_on_stdout().print(Syntax(python, "python", background_color="default"))
