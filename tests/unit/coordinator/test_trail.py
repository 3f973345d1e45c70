"""The trail of decisions: numbers that rise and agree, and what somebody has missed."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.state.apply import apply
from coordinator.state.commands import Announce
from coordinator.state.limits import MAX_AUDIT
from coordinator.state.model import State
from coordinator.state.records import Event
from coordinator.state.snapshot import frames, read
from coordinator.state.trail import after, complete_since, matches, newest, number, number_all


def event(seq: int, **fields: str) -> Event:
    return Event(seq=seq, at=seq, **{"by": "api", "what": "w", "about": "g", **fields})


def announced(state: State, *times: int) -> State:
    for at in times:
        apply(state, Announce(at=at, by="t", node_id="n", url=f"u{at}"))
    return state


@given(st.lists(st.integers(0, 2**45), max_size=50))
def test_numbers_rise_strictly_and_are_never_below_the_time(times: list[int]) -> None:
    audit = announced(State(), *times).audit
    numbers = [each.seq for each in audit]
    assert all(before < now for before, now in pairwise(numbers))
    assert all(each.seq >= max(each.at, 1) for each in audit)


def test_two_coordinators_agree_on_numbers_although_one_has_forgotten_what_came_before() -> None:
    """One read an old snapshot whose trail was cut; a counter would differ from here on."""
    one, other = announced(State(), *range(1_000, 1_500)), announced(State(), 1_400)
    for state in (one, other):
        announced(state, 9_000, 9_000, 9_001)
    assert [each.seq for each in one.audit[-3:]] == [each.seq for each in other.audit[-3:]]


def test_a_trail_that_was_written_without_numbers_gets_them_when_it_is_read() -> None:
    state = announced(State(), 5, 5, 9)
    numbers = [each.seq for each in state.audit]
    state.audit = [msgspec.structs.replace(each, seq=0) for each in state.audit]
    assert [each.seq for each in read(b"".join(frames(state))).audit] == numbers == [5, 6, 9]


def test_after_gives_what_is_above_a_number_and_says_whether_that_is_all() -> None:
    trail = [event(seq) for seq in (3, 7, 8)]
    assert [each.seq for each in after(trail, 3)] == [7, 8] and complete_since(trail, 3)
    assert [each.seq for each in after(trail, 5)] == [7, 8] and complete_since(trail, 0)
    assert not after(trail, 8) and complete_since(trail, 8)
    assert not complete_since(trail, 9), "a number of another trail"
    cut = announced(State(), *range(1, MAX_AUDIT + 2)).audit
    assert len(cut) == MAX_AUDIT and newest(cut) == MAX_AUDIT + 1 and cut[0].seq == 2
    assert complete_since(cut, 2) and not complete_since(cut, 1) and not complete_since(cut, 0)
    assert number([], 0) == 1


@pytest.mark.parametrize(
    ("about", "what", "by", "taken"),
    [
        ("orders", None, None, True),
        ("orders/filter", None, None, True),
        ("orders/filter@7", None, None, True),
        ("order", None, None, False),
        ("orders/filt", None, None, False),
        (None, "pipeline_placed", None, True),
        (None, "pipeline_*", None, True),
        (None, "pipeline", None, False),
        (None, None, "placement", True),
        (None, None, "api", False),
        ("orders", "group_*", None, False),
    ],
)
def test_a_filter_takes_what_it_names_and_what_lies_below(
    about: str | None, what: str | None, by: str | None, taken: bool
) -> None:
    one = event(1, about="orders/filter@7", what="pipeline_placed", by="placement")
    assert matches(one, about=about, what=what, by=by) is taken


def test_who_decided_can_be_asked_for_by_kind() -> None:
    by_key = event(1, by="api:k1")
    taken = [matches(by_key, about=None, what=None, by=by) for by in ("api", "api:k1", "api:k2", "ap")]
    assert taken == [True, True, False, False]


def test_numbering_twice_changes_nothing() -> None:
    trail = [event(3), event(7)]
    number_all(trail)
    assert [each.seq for each in trail] == [3, 7]
