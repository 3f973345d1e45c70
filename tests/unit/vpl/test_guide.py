"""The language guide is true: its examples run as printed, and every name of the language stands in it.

Blocks of `docs/vpl.md`: a `vpl` program, then either nothing (it compiles without remark), or `events` and
`outputs`, or `errors`. Inline, `EXPRESSION` → `JSON` (or → nothing) is evaluated over the block `event`.
"""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from transport.config import NatsConfig
from vpl import aggregates, functions, keeper, layout, merging, operations, pairs, parser, patterns, values
from vpl import check as checks
from vpl.engine import Program, check_source, compile_source
from vpl.operations import sparse
from worker import payload
from worker.connectors.base import DROP_REASONS
from worker.connectors.registry import TYPES, ConnectorRegistry

GUIDE = Path(__file__).parents[3].joinpath("docs", "vpl.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CLAIM = re.compile(r"`(?P<expression>[^`\n]+)` → (?:`(?P<value>[^`\n]+)`|nothing)")
SIGNATURE = re.compile(r"^\| `(?P<name>\w+)\((?P<parameters>[^)]*)\)` \|", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A program at a line of the guide, and the blocks that follow it, by kind."""

    line: int
    source: str
    claims: dict[str, str]


def examples() -> list[Example]:
    found: list[Example] = []
    for block in BLOCK.finditer(GUIDE):
        if block["kind"] == "vpl":
            found.append(Example(GUIDE.count("\n", 0, block.start()) + 1, block["text"], {}))
        elif found:
            found[-1].claims[block["kind"]] = block["text"]
    return found


def section(title: str) -> str:
    """The text from one heading to the next of its level or above."""
    level, _, _ = title.partition(" ")
    _, found, rest = GUIDE.partition(f"\n{title}\n")
    assert found, title
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def way_out(program: Program, sink_id: int) -> str:
    if sink_id == -1:
        return "emit"
    sink = program.sinks[sink_id]
    return f"{sink.kind} {sink.connector or ''}".strip()


def played(source: str, script: str) -> str:
    """What comes out, one line for each output."""
    program = compile_source(source)
    engine, lines = program.start(), ""
    for line in script.splitlines():
        if line.startswith("@ "):
            engine.advance(int(line[2:]))
        else:
            engine.process(*payload.parse_event(line.encode(), "", 0))
        for sink_id, event_type, made, ts in engine.take():
            output = {"event_type": event_type, "timestamp": ts, "fields": made}
            lines += f"{way_out(program, sink_id)} {json.dumps(output, ensure_ascii=False)}\n"
    return lines


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"line-{example.line}")
def test_a_program_of_the_guide_does_what_the_guide_says(example: Example) -> None:
    remarks = "".join(f"{remark.severity} {remark}\n" for remark in check_source(example.source))
    assert remarks == example.claims.get("errors", "")
    if "events" in example.claims:
        assert played(example.source, example.claims["events"]) == example.claims["outputs"]


def test_the_worker_takes_every_connector_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_TOKEN", "t0k")
    programs = [compile_source(example.source) for example in examples() if "errors" not in example.claims]
    declared = [connectors for program in programs if (connectors := program.connectors)]
    assert sum(len(ConnectorRegistry.from_configs(each).health_reports()) for each in declared) >= 4


@pytest.mark.parametrize("claim", list(CLAIM.finditer(GUIDE)), ids=lambda claim: claim["expression"])
def test_an_expression_of_the_guide_has_the_value_it_shows(claim: re.Match[str]) -> None:
    event = next(block["text"] for block in BLOCK.finditer(GUIDE) if block["kind"] == "event")
    expression = claim["expression"].replace(r"\|", "|")
    engine = compile_source(f"stream S = Door.emit(value: {expression})").start()
    engine.process(*payload.parse_event(event.encode(), "", 0))
    [(_, _, made, _)] = engine.take()
    expected = {} if claim["value"] is None else {"value": json.loads(claim["value"])}
    assert json.dumps(made) == json.dumps(expected)


def signatures(title: str) -> dict[str, tuple[int, int]]:
    """The functions of a table: name -> fewest and most arguments."""
    found = {}
    for row in SIGNATURE.finditer(section(title)):
        parameters = [parameter for parameter in row["parameters"].split(", ") if parameter]
        named = [parameter for parameter in parameters if parameter != "..."]
        needed = sum(not parameter.endswith("?") for parameter in named)
        found[row["name"]] = (needed, 100 if "..." in parameters else len(named))
    return found


def test_every_function_is_in_the_guide_with_its_arguments_and_no_other() -> None:
    known = {name: (f.min_args, f.max_args) for name, f in functions.FUNCTIONS.items()}
    assert signatures("### Functions") == {**known, "is_null": (1, 1), "coalesce": (2, 100)}


def test_every_aggregate_is_in_the_guide_with_its_arguments_and_no_other() -> None:
    known = {}
    for name, aggregate in aggregates.AGGREGATES.items():
        most = 1 + (aggregate.parameter is not None)
        known[name] = (0 if aggregate.argument == "optional" else most, most)
    assert signatures("### Aggregates") == known


def test_every_operation_is_in_the_guide() -> None:
    text = section("## Streams")
    assert [name for name in operations.OPERATIONS if f"`.{name}(" not in text] == []


def test_every_source_that_is_a_call_is_in_the_guide() -> None:
    text = section("### Several types")
    assert [name for name in operations.SOURCES if f"| `{name}(" not in text] == []


def test_everything_refused_by_name_is_in_the_guide() -> None:
    text = section("## What this version refuses")
    refused = {*operations.UNAVAILABLE, *operations.FOREIGN} - {"->"}
    missing = [name for name in refused if f".{name}`" not in text]
    missing += [name for name in operations.COMBINATORS if f"`{name}(...)`" not in text]
    missing += [name for name in layout._REFUSED if not re.search(rf"`{name}\b", text)]
    assert missing == []


def test_the_limits_of_the_guide_are_those_of_the_code() -> None:
    text = section("## Limits")
    bounds = {
        f"{layout.MAX_SOURCE_BYTES // 1024} KiB, {layout.MAX_TOKENS:,} words and signs, {parser.MAX_STREAMS}",
        f"| a name | {layout.MAX_NAME} ",
        f"| {layout.MAX_NESTING} |",
        f"| {parser.MAX_HEIGHT} operators high |",
        f"| {checks.MAX_DEPTH} deep |",
        f"| {values.MAX_BITS:,} bits |",
        f"| {values.MAX_TEXT:,} characters |",
        f"| {values.MAX_ITEMS:,} items |",
        f"| 1 to {operations.MAX_COUNT_WINDOW:,} events |",
        f"| 1ms to {operations.MAX_TIME_WINDOW_MS // 86_400_000}d |",
        f"| panes of a sliding window | {merging.MAX_PANES:,} |",
        f"| 1 to {sparse.MAX_LIMIT:,} events |",
        f"| {checks.MAX_CALLS} deep |",
        f"| {checks.MAX_COST:,} parts of expressions |",
        f"| {keeper.MAX_KEYS:,} and {pairs.MAX_PER_KEY:,} |",
        f"| {keeper.MAX_KEYS:,} |",
        f"keeps | {aggregates.MAX_VALUES:,} |",
        f"| {patterns.MAX_PATTERN} and {patterns.MAX_SUBJECT:,} characters |",
        f"{payload.MAX_BYTES >> 20} MiB, {payload.MAX_FIELDS:,} fields, {payload.MAX_DEPTH} levels",
    }
    assert {bound for bound in bounds if bound not in text} == set()


def test_every_connector_parameter_and_reason_of_a_loss_is_in_the_guide() -> None:
    text = section("## Connectors")
    names = [*(field.name for field in fields(NatsConfig)), *payload.REASONS, *DROP_REASONS]
    names += [f"{kind}(" for kind in TYPES]
    assert [name for name in names if f"`{name}" not in text] == []
