"""Histories whose verdict is known: the faults the literature names, and what only looks like one."""

from tests.linearizability.checker import check
from tests.linearizability.history import Operation
from tests.linearizability.model import AppendOnlyList
from tests.linearizability.story import append, cas, mismatch, read, write


def allowed(*history: Operation) -> bool:
    """The verdict, which must not depend on the order in which the operations were written down."""
    verdict, reversed_verdict = check(history).ok, check(history[::-1]).ok
    assert verdict is not None and verdict is reversed_verdict
    return verdict


def test_nothing_at_all_is_linearizable() -> None:
    assert allowed()


def test_a_stale_read_is_a_fault() -> None:
    assert not allowed(write(1, "a", 0, 1), write(1, "b", 2, 3), read(2, "a", 4, 5))


def test_a_read_may_be_old_while_the_write_is_under_way() -> None:
    assert allowed(write(1, "a", 0, 1), write(1, "b", 2, 5), read(2, "a", 3, 4))


def test_a_lost_write_is_a_fault() -> None:
    assert not allowed(write(1, "a", 0, 1), read(2, None, 2, 3))


def test_a_read_that_overlaps_the_first_write_may_see_nothing_yet() -> None:
    assert allowed(write(1, "a", 0, 2), read(2, None, 1, 3))


def test_two_leaders_that_serve_two_values_are_a_fault() -> None:
    left = (write(1, "a", 0, 1), read(1, "a", 4, 5), read(1, "a", 8, 9))
    right = (write(2, "b", 2, 3), read(2, "b", 6, 7))
    assert not allowed(*left, *right)


def test_a_read_of_a_write_that_surely_failed_is_a_fault() -> None:
    """The failed write of "b" is not in the history."""
    assert not allowed(write(1, "a", 0, 1), read(2, "b", 2, 3))


def test_another_process_must_see_what_one_has_written() -> None:
    assert not allowed(write(1, "a", 0, 1), write(2, "b", 2, 3), read(1, "b", 4, 5), read(3, "a", 6, 7))


def test_a_process_must_see_what_it_has_written_itself() -> None:
    assert not allowed(write(1, "a", 0, 1), write(1, "b", 2, 3), read(1, "a", 4, 5))


def test_reads_must_not_go_back() -> None:
    """Both reads overlap the write; each alone is fine, in this order they are not."""
    assert not allowed(write(1, "a", 0, 9), read(2, "a", 1, 2), read(3, None, 3, 4))
    assert allowed(write(1, "a", 0, 9), read(2, "a", 1, 3), read(3, None, 2, 4))


def test_two_cas_from_one_value_are_a_fault() -> None:
    assert not allowed(write(1, 0, 0, 1), cas(1, 0, 1, 2, 5), cas(2, 0, 2, 3, 6))


def test_two_cas_from_one_value_are_fine_if_the_value_came_back() -> None:
    assert allowed(write(1, 0, 0, 1), cas(1, 0, 1, 2, 5), cas(2, 0, 2, 3, 6), write(3, 0, 2, 6))


def test_a_refused_cas_must_have_had_a_reason() -> None:
    assert not allowed(write(1, 0, 0, 1), mismatch(2, 0, 2, 3))
    assert allowed(write(1, 0, 0, 1), mismatch(2, 0, 2, 4), write(1, 1, 3, 5))


def test_an_unknown_write_nobody_reads_can_be_the_reason_for_a_refused_cas() -> None:
    assert allowed(write(1, 0, 0, 1), write(2, 7, 1, None), mismatch(3, 0, 2, 3))
    assert not allowed(write(1, 0, 0, 1), write(2, 7, 4, None), mismatch(3, 0, 2, 3))


def test_one_unknown_write_is_not_the_reason_for_two_refusals_around_a_read() -> None:
    around = (mismatch(3, 0, 2, 3), read(3, 0, 4, 5), mismatch(3, 0, 6, 7))
    assert not allowed(write(1, 0, 0, 1), write(2, 7, 1, None), *around)
    assert not allowed(write(1, 0, 0, 1), write(2, 7, 1, None), write(4, 8, 1, None), *around)
    twice = (write(2, 7, 1, None), write(4, 8, 1, None), write(5, 0, 1, None))
    assert allowed(write(1, 0, 0, 1), *twice, *around)


def test_one_unknown_write_is_not_the_reason_for_two_refusals_around_a_known_write() -> None:
    around = (mismatch(3, 0, 2, 3), write(1, 0, 4, 5), mismatch(3, 0, 6, 7))
    assert not allowed(write(1, 0, 0, 1), write(2, 7, 1, None), *around)
    assert allowed(write(1, 0, 0, 1), write(2, 7, 1, None), write(4, 8, 1, None), *around)


def test_of_two_unknown_ways_to_a_value_the_wrong_one_may_be_tried_first() -> None:
    """The second read needs the write, for the cas would find 5: the cas has to serve the first."""
    ways = (write(1, "a", 2, None), cas(2, 0, "a", 3, None))
    assert allowed(write(9, 0, 0, 1), *ways, read(3, "a", 4, 5), write(4, 5, 6, 7), read(3, "a", 8, 9))


def test_an_unknown_write_that_was_not_needed_early_may_be_read_late() -> None:
    """The cas before the write spares the unknown write of 0 for the last read."""
    together = (write(1, 1, 2, 10), cas(2, 0, 1, 2, 11))
    assert allowed(write(9, 0, 0, 1), write(3, 0, 1, None), *together, read(4, 1, 12, 13), read(4, 0, 14, 15))


def test_an_unknown_write_may_be_read_much_later() -> None:
    later = (read(3, "a", 4, 5), read(3, "b", 6, 7))
    assert allowed(write(1, "a", 0, 1), write(2, "b", 2, None), *later)


def test_an_unknown_write_may_never_happen() -> None:
    assert allowed(write(1, "a", 0, 1), write(2, "b", 2, None), read(3, "a", 4, 5), read(3, "a", 600, 601))


def test_an_unknown_write_that_was_read_stays() -> None:
    """It was read, then the value before it again: it cannot be taken back."""
    assert not allowed(write(1, "a", 0, 1), write(2, "b", 2, None), read(3, "b", 4, 5), read(3, "a", 6, 7))


def test_an_unknown_write_happens_once() -> None:
    """A proposal sent again and applied twice shows as its value coming back."""
    again = (read(3, "b", 4, 5), write(1, "a", 6, 7), read(3, "b", 8, 9))
    assert not allowed(write(2, "b", 2, None), *again)
    assert allowed(write(2, "b", 2, None), write(4, "b", 2, None), *again)


def test_an_unknown_write_cannot_be_read_before_it_was_invoked() -> None:
    assert not allowed(read(1, "b", 0, 1), write(2, "b", 2, None))


def test_unknown_cas_may_carry_each_other() -> None:
    chain = (cas(2, "a", "b", 1, None), cas(3, "b", "c", 1, None))
    assert allowed(write(1, "a", 0, 1), *chain, read(4, "c", 2, 3))
    assert not allowed(write(1, "a", 0, 1), chain[1], read(4, "c", 2, 3))


def test_a_read_that_timed_out_says_nothing() -> None:
    forgotten = Operation(1, "x", "read", "nonsense", invoked=0, returned=None)
    assert allowed(forgotten, write(1, "a", 1, 2), read(1, "a", 3, 4))


def test_a_list_shows_each_append_once_and_in_order() -> None:
    appends = [append(1, "a", 0, 1), append(2, "b", 2, 3)]
    model = AppendOnlyList()
    for seen, verdict in ((("a", "b"), True), (("b", "a"), False), (("a",), False), (("a", "b", "b"), False)):
        assert check([*appends, read(3, seen, 4, 5)], model=model).ok is verdict


def test_an_unknown_append_may_be_seen_late_and_then_stays() -> None:
    history = [
        append(1, "a", 0, 1),
        append(2, "b", 0, None),
        read(3, ("a",), 2, 3),
        read(3, ("a", "b"), 4, 5),
    ]
    assert check(history, model=AppendOnlyList()).ok
    assert check([*history, read(3, ("a",), 6, 7)], model=AppendOnlyList()).ok is False


def test_keys_are_judged_apart() -> None:
    """Sound for each key alone; no order of both would be needed even if there were none."""
    one = Operation(1, "one", "write", 1, invoked=0, returned=1)
    two = Operation(2, "two", "read", 1, invoked=2, returned=3)
    verdict = check([one, two])
    assert verdict.ok is False and verdict.key == "two"


def test_a_register_begins_with_the_initial_value() -> None:
    history = [read(1, 5, 0, 1), cas(1, 5, 6, 2, 3)]
    assert check(history, initial=5).ok is True
    assert check(history).ok is False
