"""The memory of a data directory: durable, readable, and held by one at a time."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.errors import CliError
from cli.up import processes
from cli.up.record import Process, Record, in_other_hands, load, locked, save
from tests.support.cluster import poll

RECORD = Record(cluster_id="c-1", http_port=9100, nats_port=4222, coordinators=3, workers=2)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    record = RECORD.with_process(Process(role="nats", id="nats", pid=7, created=1.5, port=4222))
    save(tmp_path, record)
    assert load(tmp_path) == record


def test_a_directory_without_a_cluster_remembers_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"cluster_id": 7}', b"\xff", b'{"format": 2, "cluster_id": "c"}']
)
def test_a_file_that_is_no_record_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cluster.json").write_bytes(content)
    with pytest.raises(CliError, match="another --data-dir"):
        load(tmp_path)


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, RECORD)
    path = tmp_path / "cluster.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CliError, match="another version"):
        load(tmp_path)


def test_a_second_start_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(CliError, match="another `varpulis up`"),
        locked(tmp_path, timeout=0.1),
    ):
        pass


def test_whether_somebody_is_at_work_can_be_asked_without_waiting(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert in_other_hands(tmp_path)
    assert not in_other_hands(tmp_path)


def test_the_lock_is_free_again_after_use(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with locked(tmp_path, timeout=0.0):
        pass


def test_a_directory_that_cannot_be_made_is_told_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot use the data directory"), locked(tmp_path / "file"):
        pass


def test_a_process_that_ended_and_was_not_collected_does_not_run(tmp_path: Path) -> None:
    started, child = processes.spawn(
        Process(role="worker", id="w"), [sys.executable, "-c", ""], tmp_path / "logs" / "w.log"
    )
    handle = psutil.Process(child.pid)
    poll(lambda: handle.status() == psutil.STATUS_ZOMBIE, what="its end")
    assert not started.running
    child.wait(timeout=10)


def test_a_process_that_ignores_signals_is_killed_in_bounded_time(tmp_path: Path) -> None:
    ignore = "import signal, time; [signal.signal(number, signal.SIG_IGN) for number in (2, 15)]"
    deaf = f"{ignore}; print('deaf', flush=True); time.sleep(60)"
    log = tmp_path / "logs" / "w.log"
    started, child = processes.spawn(Process(role="worker", id="w"), [sys.executable, "-c", deaf], log)
    poll(lambda: processes.last_line(log) == "deaf", what="its first words")
    assert processes.stop([started]) == [started]
    assert child.wait(timeout=10) == -9


def test_stopping_a_process_of_the_same_pid_that_is_not_ours_does_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        created = psutil.Process(other.pid).create_time()
        assert processes.stop([Process(role="worker", id="w", pid=other.pid, created=created - 50)]) == []
        assert other.poll() is None
        other.kill()


def test_the_last_words_of_a_process_are_its_last_line_that_is_not_empty(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 20_000 + b"\nfirst\nlast \xff words\n\n  \n")
    assert processes.last_line(log) == "last � words"
    assert processes.last_line(tmp_path / "none") == ""
