"""`varpulis up` and `down` with real processes: complete what is missing, never touch what runs, leave
nothing.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cli.demo.trades import figures
from cli.up import record
from cli.up.ports import free_port_range
from tests.support.cluster import ROOT, Cluster, environment, poll, varpulis

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
STOP_BOUND = 8.0
"""Seconds: the promise is five; a shared machine gets some air."""


def pids(report: dict[str, Any]) -> dict[str, int]:
    return {process["id"]: process["pid"] for process in report["processes"]}


@contextlib.contextmanager
def foreground(
    cluster: Cluster, *arguments: str, program: Sequence[str] = ("-m", "cli.main")
) -> Iterator["subprocess.Popen[str]"]:
    """`varpulis up` as a child; killed at the end, and its cluster stopped, whatever happens."""
    command = [sys.executable, *program, *cluster.up_command("-o", "json", *arguments)]
    with subprocess.Popen(
        command,
        cwd=cluster.cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()
            cluster.remove()


def read_report(child: "subprocess.Popen[str]", cluster: Cluster) -> dict[str, Any]:
    """The one JSON document that a foreground `up` prints once all is ready."""
    assert child.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = child.stdout.readline()
        assert line, f"up ended: {child.stderr.read() if child.stderr else ''}"
        text += line
    report: dict[str, Any] = json.loads(text)
    cluster.adopt(report)
    return report


def read_until(child: "subprocess.Popen[str]", wanted: str) -> str:
    """The first line on stderr that holds `wanted`."""
    assert child.stderr is not None
    for line in child.stderr:
        if wanted in line:
            return line
    raise AssertionError(f"up ended without a line with {wanted!r}")


def test_a_cluster_goes_up_is_completed_and_goes_down_without_a_trace(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1)
    try:
        first = cluster.up()
        assert [process["role"] for process in first["processes"]] == [
            "nats",
            "coordinator",
            "worker",
            "worker",
        ]
        for process in first["processes"][1:]:
            assert httpx.get(f"{process['url']}/readyz", trust_env=False).status_code == 200, process["id"]

        assert cluster.up() == first, "a second `up` must start nothing"

        cluster.kill("worker-1")
        cluster.kill("coordinator-0")
        completed = cluster.up()
        changed = {name for name, pid in pids(completed).items() if pids(first)[name] != pid}
        assert changed == {"worker-1", "coordinator-0"}
        assert [p["url"] for p in completed["processes"]] == [p["url"] for p in first["processes"]]

        more = cluster.up("--workers", "3")
        assert set(pids(more)) - set(pids(first)) == {"worker-2"}

        refused = cluster.run(*cluster.up_command("--coordinators", "5", "--detach"))
        assert refused.returncode == 2
        assert "--coordinators 5 contradicts the 1" in refused.stderr

        began = time.monotonic()
        cluster.down()
        assert time.monotonic() - began < STOP_BOUND
        assert cluster.alive() == []
        cluster.down()

        again = cluster.up()
        assert [p["url"] for p in again["processes"]] == [p["url"] for p in first["processes"]]
    finally:
        cluster.remove()
    assert cluster.alive() == []


def test_commands_find_the_cluster_of_their_data_directory(tmp_path: Path) -> None:
    with Cluster(tmp_path, coordinators=1, workers=1) as cluster:
        here = ("--data-dir", str(cluster.data_dir))
        status = json.loads(cluster.run("status", *here, "-o", "json").stdout)
        assert status["summary"]["leader_id"] == "coordinator-0"
        (worker,) = json.loads(cluster.run("workers", *here, "-o", "json").stdout)["workers"]
        assert (worker["id"], worker["status"]) == ("worker-0", "ready")
        raft = json.loads(cluster.run("raft", "status", *here, "-o", "json").stdout)
        assert [node["role"] for node in raft["nodes"]] == ["leader"]
        for command in (["status"], ["workers"], ["groups"], ["raft", "status"]):
            shown = cluster.run(*command, *here)
            assert shown.returncode == 0, shown.stderr
            assert "coordinator-0" in shown.stdout or command[0] in ("workers", "groups")


def test_a_first_pipeline_is_checked_deployed_fed_and_removed(tmp_path: Path) -> None:
    doors = str(ROOT / "deploy" / "examples" / "doors.vpl")
    with Cluster(tmp_path, coordinators=1, workers=1) as cluster:
        url = ("--url", cluster.urls[0])
        assert cluster.run("check", doors).returncode == 0
        deployed = cluster.run("deploy", doors, *url, "-o", "json")
        assert deployed.returncode == 0, deployed.stderr
        assert json.loads(deployed.stdout)["status"] == "running"

        twice = cluster.run("deploy", doors, *url)
        assert twice.returncode == 1
        assert "conflict" in twice.stderr

        event = ("inject", "doors", "Door", "badge=b-17", "site=hq", "held_ms=45000")
        (result,) = json.loads(cluster.run(*event, *url, "-o", "json").stdout)["results"]
        assert result["worker_response"]["output_events"] == [
            {"event_type": "Held", "fields": {"badge": "b-17", "secs": 45, "level": "low"}}
        ]
        unknown = cluster.run("inject", "doors", "Window", *url, "-o", "json")
        assert unknown.returncode == 1
        assert "no_route" in unknown.stderr
        assert json.loads(unknown.stdout)["code"] == "no_route"
        nobody = cluster.run("inject", "nobody", "Door", *url, "-o", "json")
        assert (nobody.returncode, json.loads(nobody.stdout)["code"]) == (1, "not_found"), nobody.stderr

        broken = tmp_path / "broken.vpl"
        broken.write_text("stream A = B.where(contain(x, 'a')).emit(x: x)\nstream A = C.emit(y: y)\n")
        assert cluster.run("check", str(broken)).returncode == 1
        refused = cluster.run("deploy", str(broken), *url)
        assert refused.returncode == 1
        assert "1:" in refused.stderr
        assert "Traceback" not in refused.stderr

        assert cluster.run("undeploy", "doors", *url).returncode == 0
        assert json.loads(cluster.run("groups", *url, "-o", "json").stdout)["pipeline_groups"] == []


def test_the_demo_runs_on_two_workers_and_puts_out_what_it_promises(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1, demo=True)
    with foreground(cluster) as child:
        report = read_report(child, cluster)
        assert report["processes"][-1]["role"] == "generator"
        with cluster.client() as client:
            group = client.get("/pipeline-groups/demo")
        placed = {one["pipeline_name"]: one["worker_id"] for one in group["placements"]}
        assert placed == {"filter": "worker-0", "stats": "worker-1"}
        line = read_until(child, "demo.stats")
        assert "SymbolStats symbol=" in line
        assert "trades=10" in line
        assert figures(400).statistics == 20

        cluster.kill("generator")
        assert "generator ended (signal 9): run `varpulis up` again" in read_until(child, "generator ended")

        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 0
        assert time.monotonic() - began < STOP_BOUND
        assert cluster.alive() == []


def test_a_cluster_stopped_from_elsewhere_ends_the_one_that_watches(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1)
    with foreground(cluster) as child:
        read_report(child, cluster)
        cluster.down()
        assert child.wait(timeout=30) == 0
        assert child.stderr is not None
        said = child.stderr.read()
        assert "all processes are gone" in said
        assert "ended" not in said, "what `down` stops is no death"


def test_sigterm_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1)
    with foreground(cluster) as child:
        read_until(child, "starting worker-0")
        known = record.load(cluster.data_dir)
        assert known is not None
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=30) == 130
        assert [process for process in known.processes if process.running] == []


def test_a_port_in_use_is_named_with_its_holder_and_the_flag_to_change(tmp_path: Path) -> None:
    port = free_port_range()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port + 1))
        holder.listen()
        up = varpulis("up", "--detach", "--http-port", str(port), "--nats-port", str(port + 30), cwd=tmp_path)
    assert up.returncode == 1
    assert f"port {port + 1} for coordinator-1 is in use" in up.stderr
    assert f"(pid {os.getpid()})" in up.stderr
    assert "choose another --http-port" in up.stderr
    assert not [process for process in recorded(tmp_path / ".varpulis") if process.running]


def test_a_process_that_dies_at_the_start_is_quoted_and_the_rest_is_stopped(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1, env={"VARPULIS_COORDINATOR_HTTP_HOST": "0.0.0.0"})
    up = cluster.run(*cluster.up_command("--detach"))
    assert up.returncode == 1
    assert "coordinator-0 ended (exit 2) during startup: varpulis: http_host is 0.0.0.0" in up.stderr
    assert "Traceback" not in up.stderr
    assert not [process for process in recorded(cluster.data_dir) if process.running]


def test_a_broken_coordinator_does_not_cost_the_majority_that_is_well(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=1) as cluster:
        cluster.down()
        damage(cluster, "coordinator-1")
        up = cluster.run(*cluster.up_command("--detach", "-o", "json"))
        assert up.returncode == 1
        report = json.loads(up.stdout)
        cluster.adopt(report)
        assert list(pids(report)) == ["nats", "coordinator-0", "coordinator-2", "worker-0"]
        said = [line for line in up.stderr.splitlines() if line.startswith("varpulis: ")]
        assert len(said) == 2
        assert "coordinator-1 ended (exit 1) during startup: coordinator coordinator-1 cannot" in said[0]
        assert "is corrupt" in said[0]
        assert str(cluster.data_dir / "logs" / "coordinator-1.log") in said[0]
        assert "runs on a majority, 2 of 3 coordinators: repair coordinator-1" in said[1]
        cluster.leader()

        again = cluster.run(*cluster.up_command("--detach", "-o", "json"))
        assert (again.returncode, json.loads(again.stdout)) == (1, report), "what runs is left alone"

        with foreground(cluster) as child:
            assert pids(read_report(child, cluster)) == pids(report)
            assert "runs on a majority" in read_until(child, "2 of 3")
            read_until(child, "Ready.")
            child.send_signal(signal.SIGINT)
            assert child.wait(timeout=30) == 0
        assert cluster.alive() == []

        damage(cluster, "coordinator-2")
        without = cluster.run(*cluster.up_command("--detach"))
        assert without.returncode == 1
        assert "coordinator-1 ended" in without.stderr
        assert "coordinator-2 ended" in without.stderr
        assert not [process for process in recorded(cluster.data_dir) if process.running]


LOADED = "import sys, cli.main as m; sys.stderr.write('loaded\\n'); sys.stderr.flush(); sys.exit(m.main())"
"""Says when the interpreter is there: an interrupt before that is not for us to answer."""


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_ctrl_c_at_any_moment_of_a_start_is_exit_130_without_a_traceback(
    tmp_path: Path, delay: float
) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1)
    with foreground(cluster, program=("-c", LOADED)) as child:
        read_until(child, "loaded")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=delay)
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
        assert child.stderr is not None
        said = child.stderr.read()
        assert "varpulis: interrupted" in said
        assert "Traceback" not in said
        assert not [process for process in recorded(cluster.data_dir) if process.running]


def test_a_missing_nats_server_is_told_with_a_remedy(tmp_path: Path) -> None:
    port = str(free_port_range())
    up = varpulis(
        "up", "--detach", "--nats-server", "/nowhere/nats-server", "--http-port", port, cwd=tmp_path
    )
    assert up.returncode == 1
    assert "no nats-server at /nowhere/nats-server" in up.stderr


def test_two_starts_at_once_make_one_cluster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1)
    command = [sys.executable, "-m", "cli.main", *cluster.up_command("--detach", "-o", "json")]
    try:
        racing = [
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = [child.communicate(timeout=200) for child in racing]
        assert [child.returncode for child in racing] == [0, 0], said
        first, second = (json.loads(out) for out, _ in said)
        assert first == second
        cluster.adopt(first)
        servers = [
            p
            for p in psutil.process_iter(["cmdline"])
            if str(cluster.data_dir) in " ".join(p.info["cmdline"] or [])
        ]
        poll(lambda: len(servers) == 3, timeout=1, what="one of each")
    finally:
        cluster.remove()


def damage(cluster: Cluster, coordinator: str) -> None:
    """Flip the last byte of a coordinator's journal."""
    journal = sorted((cluster.data_dir / coordinator).glob("journal-*.log"))[-1]
    data = bytearray(journal.read_bytes())
    data[-1] ^= 0xFF
    journal.write_bytes(data)


def recorded(data_dir: Path) -> list[record.Process]:
    known = record.load(data_dir)
    return known.processes if known else []
