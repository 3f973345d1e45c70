"""What a start does, decided from what is wanted, remembered and alive."""

import os

import msgspec
import psutil
import pytest

from cli.errors import UsageError
from cli.up.plan import Wanted, missing, settle
from cli.up.record import Process, Record

DEFAULTS = Wanted(coordinators=3, workers=2, http_port=9100, nats_port=4222)


def fresh(wanted: Wanted | None = None) -> Record:
    return settle(wanted or Wanted(), None, defaults=DEFAULTS, cluster_id="c-1")


def alive(process: Process) -> Process:
    """The same process, as if it were this very one."""
    return msgspec.structs.replace(process, pid=os.getpid(), created=psutil.Process().create_time())


def ids(processes: list[Process]) -> list[str]:
    return [process.id for process in processes]


def test_a_first_start_starts_everything_nats_first() -> None:
    assert ids(missing(fresh())) == [
        "nats",
        "coordinator-0",
        "coordinator-1",
        "coordinator-2",
        "worker-0",
        "worker-1",
    ]


def test_coordinators_take_ports_in_a_row() -> None:
    ports = [process.port for process in missing(fresh()) if process.role == "coordinator"]
    assert ports == [9100, 9101, 9102]


def test_what_runs_is_not_started_again() -> None:
    record = fresh()
    for process in missing(record):
        if process.id != "worker-1":
            record = record.with_process(alive(process))
    assert ids(missing(record)) == ["worker-1"]


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_taken_for_ours() -> None:
    earlier = msgspec.structs.replace(
        alive(missing(fresh())[0]), created=psutil.Process().create_time() - 100
    )
    assert not earlier.running
    assert "nats" in ids(missing(fresh().with_process(earlier)))


def test_a_worker_comes_back_on_the_port_it_had() -> None:
    record = fresh().with_process(Process(role="worker", id="worker-1", port=9155))
    assert [process.port for process in missing(record) if process.id == "worker-1"] == [9155]


def test_counts_and_ports_that_nobody_asks_for_are_the_remembered_ones() -> None:
    remembered = fresh(Wanted(coordinators=5, workers=4, http_port=9300, nats_port=4333))
    assert settle(Wanted(), remembered, defaults=DEFAULTS, cluster_id="other") == remembered


def test_more_workers_are_started() -> None:
    record = settle(Wanted(workers=4), fresh(), defaults=DEFAULTS, cluster_id="other")
    assert ids(missing(record))[-2:] == ["worker-2", "worker-3"]


def test_another_number_of_coordinators_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"--coordinators 5 contradicts the 3"):
        settle(Wanted(coordinators=5), fresh(), defaults=DEFAULTS, cluster_id="other")


def test_a_port_changes_only_while_nothing_runs() -> None:
    stopped = fresh()
    assert settle(Wanted(nats_port=4333), stopped, defaults=DEFAULTS, cluster_id="x").nats_port == 4333
    running = stopped.with_process(alive(missing(stopped)[0]))
    with pytest.raises(UsageError, match=r"--nats-port 4333 contradicts 4222"):
        settle(Wanted(nats_port=4333), running, defaults=DEFAULTS, cluster_id="x")


def test_what_runs_is_listed_by_role_and_number() -> None:
    record = fresh(Wanted(workers=11))
    for process in reversed(missing(record)):
        record = record.with_process(alive(process))
    assert ids(record.running) == ids(missing(fresh(Wanted(workers=11))))
