"""The commands that look at one thing, take one out, or send many: what they ask, show and refuse."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.commands.batch import _parts
from cli.main import main
from tests.unit.cli.stand_in import Coordinator, serving

KEY = {"id": "k1", "role": "viewer", "status": "active", "note": "n", "created_at": 1, "expires_at": None}
MOVE = {
    "id": "m7",
    "group_id": "g",
    "pipeline": "p",
    "status": "done",
    "cause": "drain",
    "from_worker": "w1",
    "to_worker": "w2",
    "reason": None,
}
PLACED = {
    "pipeline_name": "p",
    "status": "failed",
    "worker_id": "w1",
    "epoch": 4,
    "version": 2,
    "reason": "too many errors",
}
GROUP = {
    "name": "g",
    "status": "failed",
    "version": 2,
    "delivery": "at_least_once",
    "strategy": None,
    "placements": [PLACED],
    "routes": [{"from_pipeline": "p", "to_pipeline": "q", "event_types": ["Out"]}],
    "sources": {"p": "stream Out = In"},
}
TOPOLOGY = {
    "workers": [{"id": "w1", "status": "ready", "assigned_pipelines": ["g/p"]}],
    "groups": [],
    "routes": [{"group": "g", "from_pipeline": "p", "to_pipeline": "q", "event_types": ["Out"]}],
}
COUNTS = {"events_sent": 1, "events_failed": 0, "processing_time_us": 5, "output_events": [], "errors": []}


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        yield server


@pytest.mark.parametrize(
    ("arguments", "asked", "answer", "shows"),
    [
        ("worker show a/b", "/workers/a%2Fb", {"id": "a/b", "status": "ready", "labels": {"z": "1"}}, "z=1"),
        ("migration show m7", "/migrations/m7", MOVE, "m7 g/p done drain w1 w2"),
        ("group show g", "/pipeline-groups/g", GROUP, "p failed w1 4 2 too many errors"),
        ("group show g", "/pipeline-groups/g", GROUP, "p q Out"),
        ("group show g --source", "/pipeline-groups/g", GROUP, "stream Out = In"),
        ("topology", "/topology", TOPOLOGY, "w1 ready g/p"),
        ("topology", "/topology", TOPOLOGY, "g p q Out"),
        ("key show k1", "/keys/k1", KEY, "role viewer status active note n"),
        (
            "whoami",
            "/whoami",
            {"role": "operator", "key_id": "k1", "keys_required": True},
            "operator k1",
        ),
    ],
)
def test_one_thing_is_one_request_and_shown_as_it_is(
    coordinator: Coordinator,
    arguments: str,
    asked: str,
    answer: Any,
    shows: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator.answer = json.dumps(answer).encode()
    assert main(arguments.split()) == 0
    assert coordinator.asked == [("GET", asked, None)]
    assert shows in " ".join(capsys.readouterr().out.split())
    assert main([*arguments.split(), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_programs_are_shown_only_to_who_asks_for_them(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.answer = json.dumps(GROUP).encode()
    assert main(["group", "show", "g"]) == 0
    assert "stream" not in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "query"), [(("--yes",), ""), (("--yes", "--force"), "?force=true")])
def test_a_worker_is_taken_out_when_that_is_meant(
    coordinator: Coordinator, flags: tuple[str, ...], query: str
) -> None:
    coordinator.answer = b'{"removed": true}'
    assert main(["worker", "remove", "w1", *flags]) == 0
    assert coordinator.asked == [("DELETE", f"/workers/w1{query}", None)]


def test_nobody_is_taken_out_unasked(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["worker", "remove", "w1"]) == 2
    assert coordinator.asked == [] and "--yes" in capsys.readouterr().err


def test_a_program_is_checked_by_the_cluster_where_that_is_asked(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.vpl").write_text("stream A = B\n")
    finding = {"severity": "error", "line": 1, "column": 12, "message": "no connector Bus", "hint": "make it"}
    coordinator.answer = json.dumps({"valid": False, "diagnostics": [finding]}).encode()
    assert main(["check", "p.vpl", "--cluster"]) == 1
    assert coordinator.asked == [("POST", "/validate", {"source": "stream A = B\n"})]
    assert "p.vpl:1:12: error: no connector Bus" in capsys.readouterr().out


def test_a_batch_goes_in_requests_of_its_size_and_the_counts_are_summed(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    last = '{"event_type": "C", "line": "one\u2028and\x85still one"}'
    lines = ['{"event_type": "A"}', "", '{"event_type": "B"}', last]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    coordinator.answer = json.dumps(COUNTS).encode()
    assert main(["inject-batch", "g", "events.jsonl", "--size", "2", "-o", "json"]) == 0
    texts = [body["events_text"] for _, _, body in coordinator.asked]
    assert texts == ['{"event_type": "A"}\n{"event_type": "B"}', last]
    assert {path for _, path, _ in coordinator.asked} == {"/pipeline-groups/g/inject-batch"}
    assert json.loads(capsys.readouterr().out)["events_sent"] == 2


def test_an_event_that_is_not_taken_is_exit_code_1_and_said(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"{}\n{}\n"), isatty=lambda: False))
    failed = {**COUNTS, "events_failed": 1, "errors": ["event 0: nothing takes it"]}
    coordinator.answer = json.dumps(failed).encode()
    assert main(["inject-batch", "g", "-", "--size", "1"]) == 1
    said = capsys.readouterr().err
    assert "varpulis: event 0: nothing takes it" in said
    assert "varpulis: events from 1: event 0: nothing takes it" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere.jsonl"], "cannot be read"), (["nowhere.jsonl", "--size", "0"], "--size 0 is out of range")],
)
def test_a_batch_that_cannot_be_is_wrong_usage(
    coordinator: Coordinator, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inject-batch", "g", *arguments]) == 2
    assert says in capsys.readouterr().err and coordinator.asked == []


def test_a_part_is_bounded_in_bytes_too() -> None:
    large = b'"' + b"x" * 1_500_000 + b'"'
    assert [count for _, count in _parts([large, large, b"{}"], 100)] == [1, 2]


@pytest.mark.parametrize(
    "command", [["top", "--every", "0.2"], ["topology"], ["whoami"], ["worker", "show", "w"]]
)
@pytest.mark.parametrize("answer", [b"{}", b"[1]", b"null", b"\xff"])
def test_another_server_at_the_url_is_named_as_the_cause(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], command: list[str], answer: bytes
) -> None:
    coordinator.answer = answer
    assert main([*command, "-o", "json"]) == 1
    assert "is a coordinator" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"{}", b"[1]", b"null", b"\xff"])
def test_the_doctor_says_that_another_server_is_there(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    coordinator.answer = answer
    assert main(["doctor", "coordinators", "-o", "json"]) == 1
    said = capsys.readouterr().out
    assert "is another server there?" in said and "this check itself failed" not in said
