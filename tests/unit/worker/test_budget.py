"""When so many events fail that the pipeline is stopped."""

from hypothesis import given
from hypothesis import strategies as st

from worker.budget import WINDOW_SECS, ErrorBudget, Limits


def outcome(budget: ErrorBudget, failing: list[bool], *, secs: float = 0.0) -> str:
    """What the budget says of events of which some fail, `secs` apart, up to the first word against it."""
    for number, fails in enumerate(failing, 1):
        if fails and (spent := budget.spend(number, number * secs)):
            return f"{number}: {spent}"
    return ""


def test_so_many_failures_in_a_row_use_the_budget_up_and_one_fewer_does_not() -> None:
    limits = Limits(in_a_row=5, share=1.0)
    assert outcome(ErrorBudget(limits), [True] * 5).startswith("5: 5 events in a row")
    assert outcome(ErrorBudget(limits), ([True] * 4 + [False]) * 50) == ""


def test_failures_that_are_most_of_what_comes_use_it_up_without_any_row() -> None:
    said = outcome(ErrorBudget(Limits(in_a_row=10, share=0.5)), [True, False] * 50)
    assert said.endswith("10 of 19 events failed within 10 s")


def test_failures_that_are_far_apart_do_not_add_up() -> None:
    limits = Limits(in_a_row=10, share=0.5)
    assert outcome(ErrorBudget(limits), [True, False] * 200, secs=WINDOW_SECS / 12) == ""


def test_what_a_checkpoint_brought_along_begins_a_new_row_and_a_new_window() -> None:
    budget = ErrorBudget(Limits(in_a_row=3, share=0.1))
    budget.spend(1, 0.0)
    budget.spend(2, 0.0)
    budget.begin_anew(1000)
    assert budget.spend(1001, 0.0) == ""
    assert budget.in_a_row == 1 and budget.failures == 3


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 20), st.floats(0.05, 1.0))
def test_a_row_is_always_found_and_fewer_failures_than_the_budget_never_stop_it(
    failing: list[bool], in_a_row: int, share: float
) -> None:
    said = outcome(ErrorBudget(Limits(in_a_row=in_a_row, share=share)), failing)
    row = longest = 0
    for fails in failing:
        row = row + 1 if fails else 0
        longest = max(longest, row)
    if longest >= in_a_row:
        assert said
    if sum(failing) < in_a_row:
        assert not said
