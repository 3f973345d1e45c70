"""The gate in front of the outputs, on a virtual clock (the first argument of every call)."""

import pytest

from worker.lease import Lease, Permit

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


def test_a_copy_whose_deploy_is_of_now_may_put_out_at_once_and_for_good() -> None:
    lease = granted(0.0)
    permit = Permit(lease, heard_at=0.0)
    assert permit.is_open(1.0)
    permit.listed(1.0)
    for second in range(1, 100):
        lease.went_out(float(second))
        assert permit.is_open(second + 0.5), "without any answer, as the others"


@pytest.mark.parametrize("heard_at", [0.0, None])
def test_a_copy_whose_deploy_may_be_older_than_the_lease_waits_until_the_leader_leaves_it_alone(
    heard_at: float | None,
) -> None:
    """The worker was frozen from 1 to 10, and a heartbeat had gone out before the copy was made."""
    lease = granted(0.0)
    lease.went_out(10.0)
    permit = Permit(lease, heard_at)
    permit.listed(10.1)
    lease.acknowledged(10.0, SECS, 10.2)
    assert lease.is_open(10.3) and not permit.is_open(10.3), "what was answered does not list it"
    lease.went_out(10.4)
    assert not permit.is_open(10.5)
    lease.acknowledged(10.4, SECS, 10.6)
    assert permit.is_open(10.7) and permit.is_sure(1e9)


def test_a_copy_that_was_made_while_the_worker_froze_waits_too() -> None:
    lease = granted(0.0)
    permit = Permit(lease, heard_at=0.0)
    assert permit.is_open(0.5)
    lease.went_out(10.0)
    lease.acknowledged(10.0, SECS, 10.1)
    assert not permit.is_open(10.2), "nor before heartbeats list it"
    permit.listed(10.2)
    assert not permit.is_open(10.3)
    lease.acknowledged(10.4, SECS, 10.5)
    assert permit.is_open(10.6)


def test_an_answer_about_an_earlier_list_of_copies_vouches_for_none_made_since() -> None:
    lease = granted(0.0)
    permit = Permit(lease)
    permit.listed(1.0)
    lease.acknowledged(1.2, SECS, 1.3, judged_at=0.9)
    assert lease.is_open(1.4) and not permit.is_open(1.4)
    lease.acknowledged(1.4, SECS, 1.5, judged_at=1.2)
    assert permit.is_open(1.6)


def test_a_deploy_sent_before_the_connection_was_lost_is_not_of_now() -> None:
    """Who finds nobody at our commands does not wait for our lease."""
    lease = granted(0.0)
    lease.cut_off(0.2)
    lease.acknowledged(0.3, SECS, 0.4)
    before, since = Permit(lease, heard_at=0.1), Permit(lease, heard_at=0.3)
    for permit in (before, since):
        permit.listed(0.5)
    assert not before.is_open(0.6) and since.is_open(0.6)


def test_where_no_lease_is_granted_every_copy_puts_out() -> None:
    lease = Lease()
    permit = Permit(lease)
    assert permit.is_open(1.0)
    permit.listed(1.0)
    assert permit.is_open(2.0)
