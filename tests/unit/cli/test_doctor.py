"""`varpulis doctor` as its user meets it, and how its checks run: side by side, bounded, each for itself."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.doctor.examination import examine
from cli.doctor.findings import Check, Finding, Result, ok, warning, worst
from cli.doctor.site import Site
from cli.doctor.table import CHECKS
from cli.invocation import Invocation
from cli.main import main
from cli.resolve import Settings
from tests.support.cluster import environment
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site() -> Site:
    return Site(Invocation(Settings(environ={})))


def failing(site: Site) -> list[Finding]:
    raise KeyError("hunter2")


def test_a_check_that_hangs_is_given_up_and_keeps_what_it_had_found(site: Site) -> None:
    release = threading.Event()

    def hanging(site: Site) -> Iterator[Finding]:
        yield ok("first", "seen")
        release.wait(60)

    late = Check("late", "x", hanging, 0.2, (Result.WARNING, "wait longer"))
    quick = Check("quick", "x", lambda site: [ok("q", "seen")])
    try:
        first, second = examine(site, [late, quick], within=30)
    finally:
        release.set()
    assert [finding.about for finding in first.findings] == ["first", "late"]
    assert first.result is Result.WARNING and "not done after" in first.findings[1].found
    assert second.result is Result.OK


def test_the_time_for_all_bounds_each(site: Site) -> None:
    release = threading.Event()

    def hanging(site: Site) -> list[Finding]:
        release.wait(60)
        return []

    try:
        (only,) = examine(site, [Check("only", "x", hanging, 50.0)], within=0.1)
    finally:
        release.set()
    assert only.result is Result.FAULT and only.seconds < 10


def test_a_check_that_fails_stops_no_other_and_shows_nothing_of_what_it_held(site: Site) -> None:
    checks = [Check("bad", "x", failing), Check("good", "x", lambda site: [ok("g", "seen")])]
    bad, good = examine(site, checks, within=30)
    (finding,) = bad.findings
    assert finding.result is Result.FAULT and "KeyError at " in finding.found
    assert "hunter2" not in finding.found
    assert good.result is Result.OK


def test_checks_run_side_by_side(site: Site) -> None:
    both = threading.Barrier(2, timeout=30)

    def meeting(site: Site) -> list[Finding]:
        both.wait()
        return [ok("met", "the other")]

    done = examine(site, [Check("a", "x", meeting), Check("b", "x", meeting)], within=60)
    assert [one.result for one in done] == [Result.OK, Result.OK]


def test_progress_names_what_is_not_done_yet(site: Site) -> None:
    told: list[str] = []
    examine(site, [Check("one", "x", lambda site: [])], within=30, tell=told.append)
    assert told == ["looking at one"]


def test_a_terminal_shows_what_is_looked_at_and_a_pipe_nothing_but_the_result(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "cli.main", "doctor", "limits", "-o", "json"]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = run(command, tmp_path, theirs)
        os.close(theirs)
        assert b"looking" in terminal.read(4096)
    assert json.loads(done.stdout)["checks"][0]["check"] == "limits"
    assert run(command, tmp_path, subprocess.PIPE).stderr == b""


def run(command: list[str], directory: Path, stderr: int) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command,
        cwd=directory,
        env=environment({"TERM": "xterm"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=60,
        check=True,
    )


def test_the_worst_finding_is_the_result_of_a_check() -> None:
    assert worst([]) is Result.SKIPPED
    assert worst([Result.OK, Result.SKIPPED]) is Result.OK
    assert worst([Result.FAULT, Result.WARNING, Result.OK]) is Result.FAULT


def test_names_of_checks_are_unique_and_each_has_a_deadline() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) > 10
    assert all(0 < check.seconds <= 30 for check in CHECKS)


def test_without_a_cluster_all_that_needs_one_is_skipped_with_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.invocation.DEFAULT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("cli.doctor.nats._greeting", nobody)
    assert main(["doctor", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    results = {one["check"]: one["result"] for one in document["checks"]}
    assert list(results) == [check.name for check in CHECKS]
    for name in ("coordinators", "workers", "nats", "clocks", "ports", "journals", "directories"):
        assert results[name] == "skipped", name
    skipped = [each for one in document["checks"] for each in one["findings"] if each["result"] == "skipped"]
    assert skipped and all(each["found"] for each in skipped)
    assert document["healthy"] and results["versions"] == results["event-loop"] == "ok"


def nobody(url: str) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def test_a_fault_is_exit_code_1_and_stands_in_the_table_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARPULIS_TLS_KEY", "key.pem")
    assert main(["doctor", "configuration"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "fault configuration [client] tls_key is given without tls_cert give both or neither" in shown
    assert "1 fault, no warnings" in shown


def test_warnings_alone_are_exit_code_0(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cli.commands.doctor.CHECKS", (Check("x", "y", lambda site: [warning("a", "b", "c")]),)
    )
    assert main(["doctor"]) == 0
    assert "no faults, 1 warning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nothing"], "no check 'nothing'"), (["--within", "0"], "--within 0 is out of range")],
)
def test_what_cannot_be_examined_is_wrong_usage(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_wrong_configuration_is_examined_rather_than_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "varpulis.toml").write_text("[up]\nworker = 5\n")
    assert main(["doctor", "configuration", "-o", "json"]) == 1
    ((fault,),) = [
        [each for each in one["findings"] if each["result"] == "fault"]
        for one in json.loads(capsys.readouterr().out)["checks"]
    ]
    assert "unknown setting 'up.worker'" in fault["found"] and "up.workers" in fault["remedy"]
    assert main(["config", "show"]) == 2, "every other command refuses it"
