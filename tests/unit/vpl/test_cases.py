"""Conformance cases: `cases/*.vpl.txt` hold a program and, after `---`, what goes in and what must come out.

`> type ts fields` an event, `< sink type ts fields` the next output, `@ ms` the timer, `: ms` the host's
clock, `? ms` what the next deadline must be, `= {...}` what these counters must be. Each output stands
right after its cause. `! line:column: message (hint)` is what the checks must say of a program, all of it.

A file is one case, or several: then each begins with `--- case: what it claims`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vpl import Engine, check_source, compile_source

FILES = sorted(Path(__file__).with_name("cases").glob("*.vpl.txt"))


class Case(NamedTuple):
    name: str
    source: str
    script: str


def cases() -> Iterator[Case]:
    for file in FILES:
        name = file.name.removesuffix(".vpl.txt")
        first, *parts = re.split(r"^--- case: (.*)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        titled = zip(parts[::2], parts[1::2], strict=True) if parts else [("", first)]
        for claim, text in titled:
            source, _, script = text.partition("---\n")
            yield Case(f"{name}: {claim}" if claim else name, source, script)


CASES = list(cases())


def play(engine: Engine, script: str) -> list[str]:
    """The script as it really went: inputs as they are, outputs as they came."""
    lines: list[str] = []
    for line in script.splitlines():
        sign, _, rest = line.partition(" ")
        match sign:
            case ">":
                name, at, text = rest.split(" ", 2)
                given = json.loads(text)
                engine.process(name, given, int(at))
                assert given == json.loads(text), "an input was changed"
            case "@":
                engine.advance(int(rest))
            case ":":
                engine.now = int(rest)
            case "?":
                line = f"? {json.dumps(engine.next_deadline())}"
            case "=":
                line = f"= {json.dumps({name: engine.counters[name] for name in json.loads(rest)})}"
            case _:
                continue
        lines.append(line)
        for sink, event_type, fields, ts in engine.take():
            lines.append(f"< {sink} {event_type} {ts} {json.dumps(fields, ensure_ascii=False)}")
    return lines


def went(case: Case) -> list[str]:
    """What the checks say of the program, and, when they let it pass, how its script goes."""
    remarks = check_source(case.source)
    lines = [f"! {remark}" for remark in remarks]
    if any(remark.severity == "error" for remark in remarks):
        return lines
    return lines + play(compile_source(case.source).start(), case.script)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_case_goes_as_it_is_written(case: Case) -> None:
    assert "\n".join(went(case)) == case.script.strip()


def test_no_two_cases_claim_the_same() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
