"""The gate in front of the outputs, on a virtual clock (the first argument of every call)."""

from worker.lease import Lease

SECS = 2.4


def granted(at: float) -> Lease:
    lease = Lease()
    lease.went_out(at)
    lease.acknowledged(at, SECS, at + 0.01)
    return lease


def test_without_an_acknowledgement_the_rule_is_off() -> None:
    lease = Lease()
    lease.went_out(0.0)
    assert not lease.granted
    assert lease.is_open(1e9)


def test_a_lease_of_zero_switches_the_rule_off() -> None:
    lease = granted(0.0)
    lease.acknowledged(1.0, 0.0, 1.0)
    assert lease.is_open(1e9)


def test_heartbeats_that_go_out_keep_the_gate_open_without_any_answer() -> None:
    lease = granted(0.0)
    for second in range(1, 100):
        lease.went_out(float(second))
        assert lease.is_open(second + 0.5)


def test_the_gate_closes_once_the_last_heartbeat_that_went_out_is_older_than_the_lease() -> None:
    lease = granted(0.0)
    lease.went_out(1.0)
    assert lease.is_open(1.0 + SECS)
    assert not lease.is_open(1.0 + SECS + 0.001)


def test_a_thawed_worker_stays_shut_when_its_heartbeats_go_out_again() -> None:
    lease = granted(0.0)
    assert not lease.is_open(10.0)
    lease.went_out(10.0)
    lease.went_out(10.5)
    assert not lease.is_open(10.6)


def test_the_next_acknowledgement_opens_it_again() -> None:
    lease = granted(0.0)
    lease.went_out(10.0)
    lease.acknowledged(10.0, SECS, 10.1)
    assert lease.is_open(10.2)
    assert lease.is_open(9.99 + SECS)
    assert not lease.is_open(10.1 + SECS)


def test_an_acknowledgement_that_waited_in_the_socket_of_a_frozen_worker_opens_nothing() -> None:
    lease = granted(0.0)
    lease.went_out(1.0)
    lease.acknowledged(1.0, SECS, 10.0)
    assert not lease.is_open(10.0)
    lease.went_out(10.0)
    lease.acknowledged(1.0, SECS, 10.1)
    assert not lease.is_open(10.1)


def test_an_answer_that_overtakes_the_confirmation_of_its_heartbeat_counts() -> None:
    lease = granted(0.0)
    lease.acknowledged(10.0, SECS, 10.1)
    lease.went_out(10.0)
    assert lease.is_open(10.2)
