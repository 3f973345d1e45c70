"""What `varpulis doctor` sees of this machine: settings, ids, directories, files of secrets, ports."""

import json
import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.configuration import configuration
from cli.doctor.coordinators import coordinators
from cli.doctor.directories import directories
from cli.doctor.findings import Finding, Result, worst
from cli.doctor.ids import ids, journals
from cli.doctor.nats import nats
from cli.doctor.ports import ports
from cli.doctor.secrets import secrets
from cli.doctor.site import Site
from cli.doctor.software import event_loop, limits, versions
from cli.invocation import Invocation
from cli.resolve import Settings
from cli.up import record
from tests.support.ports import free_port

COORDINATOR = {"VARPULIS_COORDINATOR_ID": "c1", "VARPULIS_COORDINATOR_MEMBERS": "c1,c2,c3"}


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def site(**environ: str) -> Site:
    """Of settings that are given as variables; nobody listens at its coordinator's URL."""
    given = {"VARPULIS_URL": f"http://127.0.0.1:{free_port()}", **environ}
    return Site(Invocation(Settings(environ=given, lenient=True)))


def told(findings: Any, result: Result = Result.FAULT) -> str:
    """All that was found of that kind, with its remedies; the others must not hold it."""
    return "\n".join(f"{one.about}: {one.found}: {one.remedy}" for one in findings if one.result is result)


# -- configuration


def test_a_variable_that_means_nothing_is_a_warning_with_what_was_meant() -> None:
    said = told(configuration(site(VARPULIS_UP_WORKER="3")), Result.WARNING)
    assert "VARPULIS_UP_WORKER: is set but means nothing: write VARPULIS_UP_WORKERS" in said


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"VARPULIS_UP_WORKERS": "many"}, "is not a whole number"),
        ({"VARPULIS_TLS_KEY": "k.pem"}, "[client]: tls_key is given without tls_cert: give both or neither"),
        ({"VARPULIS_NATS_TLS_CERT": "c.pem"}, "[nats]: tls_cert is given without tls_key"),
        ({"VARPULIS_NATS_USER": "me"}, "user is given without password"),
        ({"VARPULIS_TLS_CA": "nowhere.pem"}, "nowhere.pem"),
        (
            {"VARPULIS_CLUSTER_KEY_FILE": "nowhere.key"},
            "cluster.key_file: cluster_key_file nowhere.key cannot",
        ),
        ({"VARPULIS_COORDINATOR_ID": "c1"}, "coordinator c1: coordinator.members is missing"),
        ({"VARPULIS_WORKER_ID": "w1", "VARPULIS_WORKER_COORDINATORS": "http://far:1"}, "in the clear"),
        ({**COORDINATOR, "VARPULIS_COORDINATOR_HTTP_HOST": "0.0.0.0"}, "insecure off and no keys"),
        ({**COORDINATOR, "VARPULIS_COORDINATOR_HEARTBEAT_TIMEOUT": "1"}, "heartbeat_timeout is 1.0"),
    ],
)
def test_what_a_start_would_refuse_is_a_fault(environ: dict[str, str], says: str) -> None:
    assert says in told(configuration(site(**environ)))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"VARPULIS_API_KEY": "hunter2", "VARPULIS_API_KEY_FILE": "key"}, "api_key_file too, which counts"),
        ({"VARPULIS_API_KEY": "hunter2", "VARPULIS_URL": "http://far:1"}, "our key goes there in the clear"),
        ({"VARPULIS_URL": "http://127.0.0.1:1,http://127.0.0.1:1"}, "holds an address twice"),
        ({**COORDINATOR, "VARPULIS_COORDINATOR_REQUIRE_KEYS": "yes"}, "nobody gets in"),
        (
            {
                **COORDINATOR,
                "VARPULIS_COORDINATOR_HTTP_HOST": "0.0.0.0",
                "VARPULIS_COORDINATOR_INSECURE": "yes",
            },
            "listens on 0.0.0.0 with insecure on",
        ),
    ],
)
def test_what_a_start_lets_pass_and_is_worth_a_look_is_a_warning(environ: dict[str, str], says: str) -> None:
    Path("key").write_text("hunter2")
    found = list(configuration(site(**environ)))
    assert says in told(found, Result.WARNING)
    assert "hunter2" not in json.dumps([(one.about, one.found, one.remedy) for one in found])


def test_settings_that_fit_together_are_ok() -> None:
    found = list(configuration(site(**COORDINATOR)))
    assert {one.result for one in found} == {Result.OK}
    assert "could start with these settings" in told(found, Result.OK)


# -- ids and journals


def test_an_id_that_can_be_none_and_a_member_that_is_there_twice_are_faults() -> None:
    wrong = {"VARPULIS_COORDINATOR_ID": "a.b", "VARPULIS_COORDINATOR_MEMBERS": "c1,c1"}
    said = told(ids(site(**wrong)))
    assert "a.b" in said and "c1 is there 2 times" in said


def test_ids_that_can_be_some_are_ok() -> None:
    assert worst(one.result for one in ids(site(**COORDINATOR))) is Result.OK


def a_directory(node: str, path: Path) -> Path:
    """Of a coordinator, as `raft recover` leaves it."""
    from raft.backup import pack
    from raft.generation import Generation
    from raft.recovery import restore

    copy = path.parent / "copy"
    copy.write_bytes(
        pack(Generation(1, (node,)), [b"x"], cluster="one", last_index=3, last_term=1, taken_at_ms=0)
    )
    restore(copy, path, cluster_id="one", node_id=node, members=(node,))
    return path


def test_a_directory_of_another_node_or_cluster_is_a_fault_and_ones_own_is_ok(tmp_path: Path) -> None:
    a_directory("c1", tmp_path / "c1")
    own = {**COORDINATOR, "VARPULIS_COORDINATOR_DATA_DIR": "c1", "VARPULIS_CLUSTER_ID": "one"}
    assert worst(one.result for one in journals(site(**own))) is Result.OK
    other = {**own, "VARPULIS_COORDINATOR_ID": "c2", "VARPULIS_CLUSTER_ID": "two"}
    said = told(journals(site(**other)))
    assert "c1 belongs to c1" in said and "belongs to cluster one, not two" in said


def test_a_damaged_file_is_a_fault(tmp_path: Path) -> None:
    directory = a_directory("c1", tmp_path / "c1")
    victim = max((one for one in directory.rglob("*") if one.is_file()), key=lambda one: one.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(data)
    own = {**COORDINATOR, "VARPULIS_COORDINATOR_DATA_DIR": "c1"}
    assert victim.name in told(journals(site(**own)))


# -- directories


def test_a_directory_that_can_be_written_is_timed_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    found = list(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert "a sync takes" in told(found, Result.OK) and "free at d" in told(found, Result.OK)
    assert not told(found) and list((tmp_path / "d").iterdir()) == []


def test_one_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = list(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d/e")))
    assert "can be made" in told(found, Result.OK) and not (tmp_path / "d").exists()


def test_a_file_in_its_place_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    assert "d is no directory" in told(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))


def test_a_disk_that_cannot_be_written_is_a_fault_with_what_helps_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = told(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert "cannot be written: No space left on device: make room there" in said


@pytest.mark.parametrize(("free", "result"), [(50, Result.FAULT), (500, Result.WARNING), (5000, Result.OK)])
def test_little_room_is_told_before_it_is_needed(
    free: int, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 0, free * 1024**2))
    found = list(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert f"{free:,} MiB of" in told(found, result)


@pytest.mark.parametrize(
    ("seconds", "result"), [(0.001, Result.OK), (0.05, Result.WARNING), (0.2, Result.FAULT)]
)
def test_a_slow_disk_is_judged_by_the_election_timeout(
    seconds: float, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    now = [0.0]

    def sync(descriptor: int) -> None:
        now[0] += seconds

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("cli.doctor.directories.time.perf_counter", lambda: now[0])
    found = list(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert f"a sync takes {seconds * 1000:.1f} ms" in told(found, result)


def test_a_directory_in_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.setattr("cli.doctor.directories._file_system", lambda path: "tmpfs")
    found = list(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert "lies in memory (tmpfs)" in told(found, Result.WARNING)


def test_a_directory_that_all_may_write_in_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    said = told(directories(site(**COORDINATOR, VARPULIS_COORDINATOR_DATA_DIR="d")))
    assert "every user of this machine may write in d: chmod o-w d" in said


# -- secrets


def one_secret(path: Path, **environ: str) -> Finding:
    (finding,) = secrets(site(VARPULIS_API_KEY_FILE=str(path), **environ))
    return finding


def test_a_secret_that_all_can_read_is_a_fault_and_ones_own_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hunter2")
    path.chmod(0o644)
    open_to_all = one_secret(path)
    assert open_to_all.result is Result.FAULT and "mode 0644" in open_to_all.found
    assert "chmod 600" in open_to_all.remedy
    path.chmod(0o600)
    assert one_secret(path).result is Result.OK
    path.chmod(0o660)
    assert one_secret(path).result is Result.WARNING


def test_a_secret_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert "is not there" in one_secret(tmp_path / "key").found


def test_a_configuration_that_holds_a_password_is_a_secret_too(tmp_path: Path) -> None:
    toml = tmp_path / "varpulis.toml"
    toml.write_text("[nats]\nuser = 'me'\npassword = 'hunter2'\n")
    toml.chmod(0o644)
    said = told(secrets(site()))
    assert "the configuration, which holds a secret" in said and "hunter2" not in said
    toml.write_text("[nats]\nuser = 'me'\npassword = 'env:PASSWORD'\n")
    assert not told(secrets(site()))


# -- ports


def test_a_port_is_free_or_told_with_its_holder() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = {**COORDINATOR, "VARPULIS_COORDINATOR_HTTP_PORT": str(port)}
        assert f"(pid {os.getpid()})" in told(ports(site(**given)), Result.WARNING)
    assert "free" in told(ports(site(**given)), Result.OK)


def test_an_address_that_is_not_ours_is_a_fault() -> None:
    given = {**COORDINATOR, "VARPULIS_COORDINATOR_HTTP_HOST": "192.0.2.1"}
    assert "cannot listen on 192.0.2.1" in told(ports(site(**given)))


def a_recorded_cluster(port: int, pid: int = 0, created: float = 0.0) -> Site:
    known = record.Record(
        cluster_id="c-1",
        http_port=port,
        nats_port=free_port(),
        coordinators=1,
        workers=0,
        processes=[
            record.Process(role="coordinator", id="coordinator-0", port=port, pid=pid, created=created)
        ],
    )
    Path(".varpulis").mkdir()
    record.save(Path(".varpulis"), known)
    return Site(Invocation(Settings(environ={})))


def test_a_cluster_of_up_that_is_stopped_has_no_fault() -> None:
    rests = a_recorded_cluster(free_port())
    assert "free" in told(ports(rests), Result.OK)
    assert "no process of its cluster runs" in told(coordinators(rests), Result.SKIPPED)
    assert "no process of the cluster in .varpulis runs" in told(nats(rests), Result.SKIPPED)


def test_the_port_of_a_process_of_up_that_does_not_run_must_be_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = told(ports(a_recorded_cluster(taken.getsockname()[1])))
    assert "coordinator-0 does not run, and" in said and f"(pid {os.getpid()}) holds its port" in said


def test_a_process_of_up_that_runs_and_does_not_listen_is_a_fault() -> None:
    import psutil

    created = psutil.Process().create_time()
    said = told(ports(a_recorded_cluster(free_port(), os.getpid(), created)))
    assert f"pid {os.getpid()} runs and does not listen" in said


# -- software


def test_versions_limits_and_event_loop_are_looked_at_without_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "python" in told(versions(site()), Result.OK) and not told(versions(site()))
    monkeypatch.setattr("resource.getrlimit", lambda kind: (256, 256))
    assert "256 may be open" in told(limits(site()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "uvloop: is not there" in told(event_loop(site()), Result.WARNING)
