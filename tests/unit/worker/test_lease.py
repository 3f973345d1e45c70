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


def test_a_connection_that_is_lost_closes_the_gate_at_once_until_a_later_heartbeat_is_acknowledged() -> None:
    lease = granted(0.0)
    lease.went_out(1.0)
    lease.cut_off(1.1)
    assert not lease.is_open(1.1)
    lease.acknowledged(1.0, SECS, 1.2)
    assert not lease.is_open(1.2), "sent before the loss"
    lease.went_out(1.5)
    assert not lease.is_open(1.5)
    lease.acknowledged(1.5, SECS, 1.6)
    assert lease.is_open(1.6)


def test_after_a_lost_connection_the_data_goes_on_where_there_is_no_control_plane_any_more() -> None:
    lease = granted(0.0)
    lease.cut_off(0.5)
    second = 0.6
    while not lease.is_open(second):
        lease.went_out(second)
        second += 0.2
    assert 2 * SECS < second - 0.5 < 2 * SECS + 0.5


def test_where_no_lease_is_granted_a_lost_connection_means_nothing() -> None:
    lease = Lease()
    lease.cut_off(1.0)
    assert lease.is_open(1.0)
