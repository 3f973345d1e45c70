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
    return settle(wanted or Wanted(), None, (), defaults=DEFAULTS, cluster_id="c-1")


def again(wanted: Wanted, remembered: Record, *alive: str) -> Record:
    return settle(wanted, remembered, alive, defaults=DEFAULTS, cluster_id="other")


def ids(processes: list[Process]) -> list[str]:
    return [process.id for process in processes]


def this_process(process_id: str, role: str = "worker") -> Process:
    return Process(role=role, id=process_id, pid=os.getpid(), created=psutil.Process().create_time())


def test_a_first_start_starts_everything_nats_first() -> None:
    coordinators = ["coordinator-0", "coordinator-1", "coordinator-2"]
    assert ids(missing(fresh(), ())) == ["nats", *coordinators, "worker-0", "worker-1"]


def test_coordinators_take_ports_in_a_row() -> None:
    ports = [process.port for process in missing(fresh(), ()) if process.role == "coordinator"]
    assert ports == [9100, 9101, 9102]


def test_what_runs_is_not_started_again() -> None:
    assert ids(missing(fresh(), set(ids(missing(fresh(), ()))) - {"worker-1"})) == ["worker-1"]


def test_a_worker_comes_back_on_the_port_it_had() -> None:
    record = fresh().with_process(Process(role="worker", id="worker-1", port=9155))
    assert [process.port for process in missing(record, ()) if process.id == "worker-1"] == [9155]


def test_counts_and_ports_that_nobody_asks_for_are_the_remembered_ones() -> None:
    remembered = fresh(Wanted(coordinators=5, workers=4, http_port=9300, nats_port=4333))
    assert again(Wanted(), remembered) == remembered


def test_more_workers_are_started() -> None:
    assert ids(missing(again(Wanted(workers=4), fresh()), ()))[-2:] == ["worker-2", "worker-3"]


def test_another_number_of_coordinators_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"--coordinators 5 contradicts the 3"):
        again(Wanted(coordinators=5), fresh())


def test_a_port_changes_only_while_nothing_runs() -> None:
    assert again(Wanted(nats_port=4333), fresh()).nats_port == 4333
    with pytest.raises(UsageError, match=r"--nats-port 4333 contradicts 4222"):
        again(Wanted(nats_port=4333), fresh(), "nats")


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_taken_for_ours() -> None:
    ours = this_process("worker-0")
    assert ours.running
    assert not msgspec.structs.replace(ours, created=ours.created - 100).running


def test_what_runs_is_listed_by_role_and_number() -> None:
    record = fresh()
    for name in ("worker-10", "worker-2", "coordinator-1"):
        record = record.with_process(this_process(name, name.partition("-")[0]))
    record = record.with_process(Process(role="nats", id="nats", port=4222))
    assert ids(record.running) == ["coordinator-1", "worker-2", "worker-10"]
