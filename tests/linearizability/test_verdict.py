"""Large histories are decided, and a fault in one is told with the few operations that show it."""

from dataclasses import replace

from tests.linearizability.checker import check
from tests.linearizability.history import Operation
from tests.linearizability.model import AppendOnlyList
from tests.linearizability.simulated import Load, simulated
from tests.linearizability.story import append, cas, mismatch, read, write

LARGE = Load(operations=20_000, clients=10, keys=10, unknown=0.01)


def with_a_stale_read(history: list[Operation], key: str) -> list[Operation]:
    """The last read of `key` gives the first value that was read, overwritten long ago."""
    at = [index for index, one in enumerate(history) if (one.key, one.kind) == (key, "read") and one.returned]
    first = next(history[index].value for index in at if history[index].value is not None)
    return [replace(one, value=first) if index == at[-1] else one for index, one in enumerate(history)]


def test_a_large_history_is_decided() -> None:
    verdict = check(simulated(1, LARGE))
    assert verdict.ok is True and verdict.key is None
    assert "on 10 keys" in verdict.explanation


def test_a_large_history_with_few_values_is_decided() -> None:
    assert check(simulated(2, replace(LARGE, values=5))).ok is True


def test_one_stale_read_in_a_large_history_is_told_in_a_few_operations() -> None:
    verdict = check(with_a_stale_read(simulated(1, LARGE), "k3"))
    assert verdict.ok is False and verdict.key == "k3"
    title, _, *drawn = verdict.explanation.splitlines()
    rows = [line for line in drawn if line.startswith("  process")]
    assert 3 <= len(rows) <= 6, verdict.explanation
    assert title.startswith(f"k3: not linearizable. {len(rows)} of ")


def test_a_fault_that_hides_among_too_many_orders_is_found_in_a_part() -> None:
    """Twenty writes at once, each a candidate to hide under another: their orders are beyond counting."""
    crowd = [write(i, i, 0, 100) for i in range(20)]
    asked = [mismatch(50 + i, i, 200 + i, 201 + i) for i in range(20)]
    stale = [write(90, "a", 300, 301), write(90, "b", 302, 303), read(91, "a", 304, 305)]
    verdict = check([*crowd, *asked, *stale], deadline_seconds=6.0)
    assert verdict.ok is False
    assert verdict.explanation.startswith("x: not linearizable. 3 of 43 operations show it")


def test_the_explanation_draws_what_stands_against_each_other() -> None:
    noise = [cas(9, "b", "c", 9, None), read(8, "b", 3, 4), mismatch(7, "a", 3, 4)]
    verdict = check([write(1, "a", 0, 1), write(2, "b", 1.5, 3), read(3, "a", 4, 4), *noise])
    assert verdict.explanation.splitlines() == [
        "x: not linearizable. 3 of 6 operations show it:",
        "",
        "  process 1: write 'a'      |---------------|  [0, 1]",
        "  process 2: write 'b'                                     |--------------|  [1.5, 3]",
        "  process 3: read gave 'a'                                                                |  [4, 4]",
        "",
        "It begins as None. The longest order that can be explained: write 'a' / write 'b'.",
        "Orders that get this far leave 'b'. None leads on to process 3: read gave 'a'.",
    ]


def test_the_explanation_shows_an_unknown_end() -> None:
    history = [write(1, "a", 0, 1), write(2, "b", 2, None), read(3, "b", 4, 5), read(3, "a", 6, 7)]
    explanation = check(history).explanation
    assert "4 of 4 operations" in explanation and "?  [2, unknown]" in explanation
    assert "None leads on to process 3: read gave 'a'." in explanation


def test_a_list_is_explained_by_the_items_at_fault() -> None:
    appends = [append(1, item, item, item + 0.5) for item in range(20)]
    reads = [read(2, tuple(range(20)), 30, 31), read(2, (*range(18), 19, 18), 32, 33)]
    verdict = check([*appends, *reads], model=AppendOnlyList())
    assert verdict.ok is False
    assert "3 of 22 operations" in verdict.explanation and "(19, 18)" in verdict.explanation
