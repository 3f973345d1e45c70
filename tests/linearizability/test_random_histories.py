"""A history of a real object is always accepted; with one answer changed it is judged by its merits."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.linearizability.brute_force import linearizable
from tests.linearizability.checker import check
from tests.linearizability.history import Operation
from tests.linearizability.model import NoForesight, Register
from tests.linearizability.search import Search
from tests.linearizability.shrink import cut, shrink
from tests.linearizability.simulated import Load, simulated

LOADS = st.builds(
    Load,
    operations=st.integers(1, 150),
    clients=st.integers(1, 8),
    keys=st.integers(1, 3),
    unknown=st.sampled_from([0.0, 0.05, 0.3]),
    values=st.sampled_from([0, 1, 3]),
)
SMALL = st.builds(
    Load,
    operations=st.integers(3, 7),
    clients=st.integers(2, 5),
    unknown=st.sampled_from([0.0, 0.3]),
    values=st.sampled_from([0, 2]),
)
SEEDS = st.integers(0, 2**32)
NEVER_WRITTEN = -1


def reads(history: list[Operation]) -> list[int]:
    return [at for at, one in enumerate(history) if one.kind == "read" and one.returned is not None]


@settings(max_examples=150)
@given(SEEDS, LOADS)
def test_what_a_real_object_answered_is_linearizable(seed: int, load: Load) -> None:
    verdict = check(simulated(seed, load))
    assert verdict.ok is True, verdict.explanation


@settings(max_examples=40)
@given(SEEDS, LOADS)
def test_a_value_nobody_wrote_is_never_accepted(seed: int, load: Load) -> None:
    history = simulated(seed, load)
    if at := reads(history):
        wrong = at[seed % len(at)]
        history[wrong] = replace(history[wrong], value=NEVER_WRITTEN)
        verdict = check(history)
        assert verdict.ok is False and verdict.key == history[wrong].key
        assert f"read gave {NEVER_WRITTEN}" in verdict.explanation


@settings(max_examples=300)
@given(SEEDS, SMALL, st.sampled_from([None, 0, 1, 2, 3, 4]))
def test_a_changed_answer_gets_the_verdict_of_trying_every_order(
    seed: int, load: Load, answer: int | None
) -> None:
    history = simulated(seed, load)
    if at := reads(history):
        history[at[seed % len(at)]] = replace(history[at[seed % len(at)]], value=answer)
    assert check(history).ok is linearizable(history, Register())


@settings(max_examples=150)
@given(SEEDS, SMALL, st.sets(st.sampled_from([None, 0, 1, 2, 3, 4, 5])))
def test_forgetting_values_makes_no_fault(seed: int, load: Load, values: set[int | None]) -> None:
    """The licence for showing a small history as evidence against a large one."""
    history = simulated(seed, load)
    assert linearizable(Register().forget(history, frozenset(values)), Register())


@settings(max_examples=100)
@given(SEEDS, SMALL, st.floats(0, 1))
def test_what_was_known_at_an_instant_is_no_fault(seed: int, load: Load, share: float) -> None:
    history = simulated(seed, load)
    instant = share * max((one.returned or 0.0 for one in history), default=0.0)
    known = cut(history, instant, Register())
    assert all(one.invoked <= instant and (one.returned or 0.0) <= instant for one in known)
    assert linearizable(known, Register())


@settings(max_examples=60)
@given(SEEDS, SMALL, st.sampled_from([None, 0, 1, 2, 3, 4]))
def test_a_history_made_small_is_still_at_fault(seed: int, load: Load, answer: int | None) -> None:
    history = simulated(seed, load)
    if at := reads(history):
        history[at[0]] = replace(history[at[0]], value=answer)
    assume(not linearizable(history, Register()))
    small = shrink(history, Register(), None, seconds=10.0)
    assert len(small) <= len(history)
    assert not linearizable(small, Register())


@settings(max_examples=60)
@given(SEEDS, LOADS)
def test_foresight_changes_no_verdict(seed: int, load: Load) -> None:
    history = simulated(
        seed, replace(load, keys=1, clients=min(load.clients, 4), operations=load.operations // 4 + 1)
    )
    if at := reads(history):
        history[at[-1]] = replace(history[at[-1]], value=seed % 9)
    model = Register()
    far = float("inf")
    blind = Search(history, model, None, NoForesight()).run(far)
    assert Search(history, model, None).run(far).linearizable is blind.linearizable
