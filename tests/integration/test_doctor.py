"""`varpulis doctor` against real servers: a cluster that is well, then one fault after another, each found
with its remedy; and nats-servers that refuse, are no cluster, or have no JetStream.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.findings import Result
from cli.doctor.nats import nats
from cli.doctor.site import Site
from cli.invocation import Invocation
from cli.resolve import Settings
from tests.support.cluster import Cluster, poll, varpulis
from tests.support.nats_server import NatsServer, nats_cluster
from tests.support.ports import free_port


def examined(cluster: Cluster, *arguments: str, code: int) -> dict[str, list[dict[str, str]]]:
    """The findings of each check; `arguments` as on the command line."""
    done = cluster.run("doctor", *arguments, "--data-dir", str(cluster.data_dir), "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {one["check"]: one["findings"] for one in json.loads(done.stdout)["checks"]}


def faults(found: dict[str, list[dict[str, str]]]) -> list[tuple[str, str, str]]:
    """Check, subject and text of each fault, all of which must have a remedy."""
    all_of_them = [(check, one) for check, findings in found.items() for one in findings]
    wrong = [(check, one) for check, one in all_of_them if one["result"] == "fault"]
    assert all(one["remedy"] for _, one in wrong)
    return [(check, one["about"], one["found"]) for check, one in wrong]


@pytest.mark.processes
def test_a_cluster_that_is_well_then_one_fault_after_another_is_found(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=1) as cluster:
        leader = cluster.leader()
        found = examined(cluster, code=0)
        assert not faults(found)
        for check in ("journals", "ports", "nats", "coordinators", "workers", "clocks", "secrets"):
            results = {one["result"] for one in found[check]}
            assert "ok" in results and "skipped" not in results, (check, found[check])

        key = cluster.data_dir / "keys" / "cluster.key"
        key.chmod(0o644)
        found = examined(cluster, "secrets", "configuration", code=1)
        ((check, _, text),) = faults(found)
        assert check == "secrets" and str(key) in text and "0644" in text
        assert key.read_text().split()[1] not in json.dumps(found)
        key.chmod(0o600)

        gone = next(name for name in cluster.coordinators if name != leader)
        cluster.kill(gone)
        poll(
            lambda: ("coordinators", f"member {gone}") in _abouts(cluster, "coordinators", "ports"),
            timeout=20,
            what="the leader misses it",
        )
        told = faults(examined(cluster, "coordinators", "ports", code=1))
        assert any(about == cluster.url(gone) and "refused" in text for _, about, text in told)
        assert any(check == "ports" and f"{gone} does not run" in text for check, _, text in told)

        cluster.kill("nats")
        poll(
            lambda: any("no connection to NATS" in text for _, _, text in _told(cluster, "coordinators")),
            timeout=20,
            what="they say that NATS is away",
        )
        told = faults(examined(cluster, code=1))
        assert any(check == "nats" and "no nats-server greets" in text for check, _, text in told)


def _told(cluster: Cluster, *checks: str) -> list[tuple[str, str, str]]:
    return faults(examined(cluster, *checks, code=1))


def _abouts(cluster: Cluster, *checks: str) -> set[tuple[str, str]]:
    return {(check, about) for check, about, _ in _told(cluster, *checks)}


@pytest.mark.processes
def test_a_coordinator_that_froze_costs_its_own_deadline_and_nothing_else(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=0) as cluster:
        frozen = next(name for name in cluster.coordinators if name != cluster.leader())
        cluster.signal(frozen, signal.SIGSTOP)
        try:
            told = faults(examined(cluster, "coordinators", "nats", code=1))
        finally:
            cluster.signal(frozen, signal.SIGCONT)
        assert next(about for check, about, _ in told if check == "coordinators") == cluster.url(frozen)
        assert not [about for check, about, _ in told if check == "nats"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_directory_that_cannot_be_written_and_one_that_is_full_are_faults(tmp_path: Path) -> None:
    directory = tmp_path / "c1"
    directory.mkdir()
    own = {"VARPULIS_COORDINATOR_ID": "c1", "VARPULIS_COORDINATOR_MEMBERS": "c1"}
    own |= {"VARPULIS_COORDINATOR_DATA_DIR": str(directory)}

    def look() -> str:
        done = varpulis("doctor", "directories", "-o", "json", cwd=tmp_path, env=own)
        (check,) = json.loads(done.stdout)["checks"]
        return " ".join(
            f"{one['found']}: {one['remedy']}" for one in check["findings"] if one["result"] == "fault"
        )

    try:
        mount(directory, "size=1m")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr}")
    try:
        assert "MiB of 1 free" in look() and "make room" in look()
        (directory / "ballast").write_bytes(b"x" * (1024**2 - 4096))
        with pytest.raises(OSError), (directory / "more").open("wb", buffering=0) as more:
            while True:
                more.write(b"x" * 4096)
        assert "cannot be written: No space left on device" in look()
        mount(directory, "remount,ro")
        assert "cannot be written: Read-only file system: mount it for writing" in look()
    finally:
        subprocess.run(["umount", directory], check=True, timeout=30)


def mount(directory: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)


# -- nats


def seen(*urls: str, **environ: str) -> dict[Result, str]:
    """What is said of these servers, by result."""
    given = {"VARPULIS_URL": f"http://127.0.0.1:{free_port()}", "VARPULIS_NATS_URL": ",".join(urls)}
    found = list(nats(Site(Invocation(Settings(environ={**given, **environ})))))
    return {
        result: "\n".join(f"{one.about}: {one.found}" for one in found if one.result is result)
        for result in Result
    }


def test_credentials_that_a_server_does_not_take_are_a_fault_and_never_shown() -> None:
    with NatsServer(user="me", password="hunter2") as server:
        assert "takes our credentials" in _as(server, "hunter2")[Result.OK]
        said = _as(server, "hunter3")
        assert f"{server.url} refuses us" in said[Result.FAULT]
        assert "hunter" not in json.dumps(said)
        assert "refuses us" in seen(server.url)[Result.FAULT], "nor is one without any"


def _as(server: NatsServer, password: str) -> dict[Any, str]:
    return seen(server.url, VARPULIS_NATS_USER="me", VARPULIS_NATS_PASSWORD=password)


def test_jetstream_is_missed_where_it_is_needed_only() -> None:
    with NatsServer() as without, NatsServer(jetstream=True) as with_it:
        assert not seen(without.url)[Result.FAULT]
        needed = {"VARPULIS_WORKER_CHECKPOINT_STORE": "jetstream"}
        assert "no JetStream for us" in seen(without.url, **needed)[Result.FAULT]
        assert "JetStream: 0 streams" in seen(with_it.url, **needed)[Result.OK]


def test_servers_of_one_cluster_are_ok_and_two_that_know_nothing_of_each_other_are_a_fault() -> None:
    with nats_cluster(2) as servers, NatsServer() as alone:
        together = [server.url for server in servers]
        assert not seen(*together)[Result.FAULT]
        assert "are not one cluster" in seen(together[0], alone.url)[Result.FAULT]
