"""Who owns a key: the same for everybody, evenly, and with few changes of mind."""

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.partition import Owners, canonical, instance_names, longest_name
from proto_schemas.subjects import ID_LENGTH, check_id

KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NUMBERED = [f"customer-{number}" for number in range(4_000)]


def owners(count: int, keys: list[Any]) -> list[int]:
    table = Owners(count)
    return [table.of(key) for key in keys]


@given(key=KEYS, count=st.integers(1, 40))
def test_one_more_instance_takes_keys_over_and_moves_none_between_the_others(key: Any, count: int) -> None:
    before, after = Owners(count).of(key), Owners(count + 1).of(key)
    assert after in (before, count)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15])
def test_an_nth_instance_takes_about_one_key_in_n(count: int) -> None:
    before, after = owners(count, NUMBERED), owners(count + 1, NUMBERED)
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved == pytest.approx(len(NUMBERED) / (count + 1), rel=0.2)


@pytest.mark.parametrize("count", [2, 5, 16])
@pytest.mark.parametrize("keys", [NUMBERED, list(range(4_000)), [n * 2**40 for n in range(4_000)]])
def test_keys_are_shared_out_evenly(count: int, keys: list[Any]) -> None:
    held = Counter(owners(count, keys))
    assert set(held) == set(range(count))
    assert max(held.values()) < 1.35 * len(keys) / count


def test_another_process_with_other_hash_seeds_says_the_same() -> None:
    program = (
        "from proto_schemas.partition import Owners\n"
        "print([Owners(7).of(key) for key in ('a', 'b', 1, 2.5, None, True, ['x'], {'k': 1})])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {str(owners(7, ["a", "b", 1, 2.5, None, True, ["x"], {"k": 1}]))}


def test_who_owns_what_is_written_down_because_running_clusters_rely_on_it() -> None:
    assert owners(4, ["a", "b", "c", 1, 2, None, True, 0.5]) == GOLDEN


GOLDEN = [3, 3, 0, 3, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0, -0.0), (10**20, 1e20), ([1], [1.0]), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_what_the_language_calls_equal_is_one_key(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (0, False),
        (None, "null"),
        (None, ""),
        (1.5, "1.5"),
        (["a", "b"], ["ab"]),
        (["a"], "a"),
        ({"a": "b"}, ["a", "b"]),
        ("é", "e\u0301"),
    ],
)
def test_what_only_looks_alike_is_two_keys(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)


@given(key=KEYS)
def test_what_is_remembered_is_what_would_be_worked_out(key: Any) -> None:
    table = Owners(5)
    assert table.of(key) == table.of(key) == Owners(5).of(key)


def test_a_key_of_any_size_and_kind_has_an_owner() -> None:
    for key in (10**6000, "\ud800", float("inf"), "x" * 100_000):
        assert 0 <= Owners(3).of(key) < 3


def test_memory_for_keys_is_bounded_and_forgetting_changes_nothing() -> None:
    table = Owners(3)
    first = table.of("key-0")
    for number in range(70_000):
        table.of(f"key-{number}")
    assert len(table._known) <= 65_536
    assert table.of("key-0") == first


@pytest.mark.parametrize("count", [1, 2, 10, 11, 1000])
def test_the_names_of_instances_are_ids_when_the_pipelines_name_is_short_enough(count: int) -> None:
    longest = "x" * longest_name(count)
    assert all(check_id(name) for name in instance_names(longest, count))
    assert max(map(len, instance_names(longest, count))) == ID_LENGTH
    assert instance_names("p", 1) == ("p",)
