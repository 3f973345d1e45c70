"""Conformance cases: `cases/*.vpl.txt` hold a program and, after `---`, what goes in and what must come out.

`> type ts fields` an event, `< sink type ts fields` the next output, `@ ms` the timer, `: ms` the host's
clock, `? ms` what the next deadline must be, `= {...}` what these counters must be. Each output stands
right after its cause.
"""

import json
from pathlib import Path

import pytest

from vpl import Engine, compile_source

CASES = sorted(Path(__file__).with_name("cases").glob("*.vpl.txt"))


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".vpl.txt"))
def test_the_case_goes_as_it_is_written(case: Path) -> None:
    source, _, script = case.read_text(encoding="utf-8").partition("---\n")
    assert "\n".join(play(compile_source(source).start(), script)) == script.strip()
