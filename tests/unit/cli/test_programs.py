"""What can be done with a program without a cluster: check, run, explain, fmt."""

import io
import json
from pathlib import Path

import pytest

from cli.excerpt import excerpt
from cli.main import main
from vpl import Diagnostic

DOORS = """stream Held = Door.where(held_ms > 30s).emit(badge: badge)
stream Busy = Door.window(1m).aggregate(n: count()).emit(n: n)
"""
EVENTS = """{"event_type": "Door", "timestamp": 1000, "fields": {"badge": "b-1", "held_ms": 40000}}
{"event_type": "Door", "timestamp": 2000, "badge": "b-2", "held_ms": 5}

{"event_type": "Door", "timestamp": 70000, "badge": "b-3", "held_ms": 31000}
"""


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doors.vpl").write_text(DOORS)
    (tmp_path / "events.jsonl").write_text(EVENTS)
    return tmp_path


def out(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    said = capsys.readouterr()
    return said.out.splitlines(), said.err


def test_run_plays_events_and_what_is_due_between_them_in_order(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "doors.vpl", "--events", "events.jsonl", "--then", "1m"]) == 0
    lines, said = out(capsys)
    ways = [(line.partition(" ")[0], json.loads(line.partition(" ")[2])) for line in lines]
    assert [(way, event["event_type"], event["timestamp"], event["fields"]) for way, event in ways] == [
        ("emit", "Held", 1000, {"badge": "b-1"}),
        ("emit", "Busy", 61000, {"n": 2}),
        ("emit", "Held", 70000, {"badge": "b-3"}),
        ("emit", "Busy", 130000, {"n": 1}),
    ]
    assert "3 events in, 4 out" in said


def test_run_reads_standard_input_and_says_what_is_still_open(
    doors: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(EVENTS.encode())))
    assert main(["run", "doors.vpl", "-o", "json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [output["event_type"] for output in document["outputs"]] == ["Held", "Busy", "Held"]
    assert document["open_until"] == 130000
    assert document["counters"]["events_in"] == 3
    assert "open until 130000: --then" in said.err


def test_run_refuses_lines_that_are_no_events_and_goes_on(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = json.dumps({"event_type": "Door", "x": "y" * (3 << 20)})
    (doors / "events.jsonl").write_text(f"nonsense\n[1]\n{long}\n{EVENTS}")
    assert main(["run", "doors.vpl", "--events", "events.jsonl"]) == 1
    lines, said = out(capsys)
    assert len(lines) == 3
    assert "line 1 is no event: bad_json" in said
    assert "line 3 is no event: too_large" in said
    assert "3 lines refused" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "doors.vpl", "--events", "nowhere"], "nowhere cannot be read"),
        (["run", "doors.vpl", "--events", "events.jsonl", "--then", "soon"], "is no duration: write 500ms"),
        (["run", "two.json"], "has 2 pipelines: say which, --pipeline a or b"),
        (["explain", "two.json", "--pipeline", "c"], "has no pipeline 'c': it has a, b"),
        (["fmt", "two.json"], "is a group file"),
        (["fmt", "nowhere.vpl"], "nowhere.vpl cannot be read"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    arguments: list[str], says: str, doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = {"name": "g", "pipelines": [{"name": "a", "source": DOORS}, {"name": "b", "source": DOORS}]}
    (doors / "two.json").write_text(json.dumps(group))
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_a_program_with_mistakes_is_neither_run_nor_explained(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (doors / "bad.vpl").write_text('stream A = Door.where(contain(site, "a"))\n')
    for command in (["check", "bad.vpl"], ["run", "bad.vpl"], ["explain", "bad.vpl"]):
        assert main(command) == 1
        assert out(capsys)[0] == [
            "bad.vpl:1:23: error: unknown function `contain`",
            '    stream A = Door.where(contain(site, "a"))',
            "                          ^ did you mean `contains`?",
        ]


def test_explain_shows_what_a_program_does_and_no_secret(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (doors / "bus.vpl").write_text(
        'connector Bus = nats(servers: "nats://me:hunter2@h:4222", token: "hunter3")\n'
        'stream In = Door.from(Bus, topic: "doors.>")\n'
        'stream Busy = In.window(1m).aggregate(n: count()).emit().to(Bus, topic: "busy")\n'
    )
    assert main(["explain", "bus.vpl", "-o", "json"]) == 0
    shown = capsys.readouterr().out
    facts = json.loads(shown)
    assert facts["consumes"] == ["Door"]
    assert facts["streams"][0]["feeds"] == ["Busy"]
    assert facts["streams"][1]["keeps"] == ["window"]
    assert facts["streams"][1]["puts_out"] == ["emit", "to Bus (topic: 'busy')"]
    assert "def on_Busy" in facts["python"]
    assert main(["explain", "bus.vpl", "--code"]) == 0
    shown += capsys.readouterr().out
    assert "def on_In" in shown
    assert "hunter" not in shown


def test_fmt_writes_files_and_checks_them(doors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = doors / "doors.vpl"
    program.write_text("stream   A=Door.emit( x:1 )")
    program.chmod(0o640)
    assert main(["fmt", "--check", "doors.vpl"]) == 1
    assert "is not formatted" in capsys.readouterr().err
    assert main(["fmt", "--diff", "doors.vpl"]) == 0
    assert "+stream A = Door.emit(x: 1)" in capsys.readouterr().out
    assert program.read_text() == "stream   A=Door.emit( x:1 )"
    assert main(["fmt", "doors.vpl"]) == 0
    assert program.read_text() == "stream A = Door.emit(x: 1)\n"
    assert program.stat().st_mode & 0o777 == 0o640
    assert main(["fmt", "--check", "doors.vpl"]) == 0
    assert sorted(path.name for path in doors.iterdir()) == ["doors.vpl", "events.jsonl"]


def test_fmt_leaves_a_broken_program_alone_and_does_the_others(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (doors / "broken.vpl").write_text("stream A = Door.emit(x: 1 +")
    (doors / "other.vpl").write_text("const A=1")
    assert main(["fmt", "broken.vpl", "other.vpl"]) == 1
    assert "broken.vpl is left as it is: 1:" in capsys.readouterr().err
    assert (doors / "broken.vpl").read_text() == "stream A = Door.emit(x: 1 +"
    assert (doors / "other.vpl").read_text() == "const A = 1\n"


def test_fmt_is_a_filter_from_standard_input_to_standard_output(
    doors: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("const A=1"))
    assert main(["fmt", "-"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("const A = 1\n", "")


def test_the_mark_stands_below_the_place_whatever_stands_before_it() -> None:
    def marked(source: str, column: int) -> str:
        return excerpt("p", source, Diagnostic("error", 1, column, "m", "h"))

    assert marked("\tab", 2) == "p:1:2: error: m\n     ab\n     ^ h"
    assert marked("'🚪' x", 5) == "p:1:5: error: m\n    '🚪' x\n         ^ h"
    _, line, mark = marked("a" * 300 + "X" + "b" * 300, 301).split("\n")
    assert line[mark.index("^")] == "X"
    assert len(line) < 120
    assert excerpt("p", "", Diagnostic("error", 7, 1, "m")) == "p:7:1: error: m"


def test_check_knows_the_types_of_connectors_and_their_parameters(
    doors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (doors / "wrong.vpl").write_text(
        'connector Bus = nats(servrs: "nats://a")\nstream A = B.from(Bus, topic: "a").emit(n: n)\n'
    )
    assert main(["check", "wrong.vpl"]) == 1
    lines, _ = out(capsys)
    assert "wrong.vpl:1:1" in lines[0] and "did you mean 'servers'" in lines[0]
