"""No byte from outside is read as pickle."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.entries import COMMAND, NOOP, NOOP_BYTES, Entry, command_bytes, from_engine, to_engine


@given(st.binary(max_size=2_000))
def test_a_payload_is_data_to_pickle_whatever_it_holds(payload: bytes) -> None:
    engine_bytes = command_bytes(payload)
    assert engine_bytes[:1] == b"\x00"
    assert pickle.loads(engine_bytes[1:]) == (0, (payload,))  # noqa: S301


def test_a_payload_that_is_a_pickle_bomb_is_not_run() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("the payload was executed",))

    payload = pickle.dumps(Bomb())
    assert pickle.loads(command_bytes(payload)[1:])[1][0] == payload  # noqa: S301


@given(
    st.builds(Entry, st.just(COMMAND), st.integers(0, 2**40), st.integers(0, 2**40), st.binary(max_size=100))
)
def test_a_command_survives_both_forms(entry: Entry) -> None:
    assert from_engine(to_engine(entry)) == entry


def test_a_noop_is_one_byte_to_the_engine() -> None:
    assert to_engine(Entry(NOOP, 7, 3, b"")) == (NOOP_BYTES, 7, 3)
    assert from_engine((NOOP_BYTES, 7, 3)) == Entry(NOOP, 7, 3, b"")


def test_bytes_that_were_not_built_here_may_not_enter_the_log() -> None:
    with pytest.raises(ValueError, match="not built here"):
        from_engine((b"\x02" + pickle.dumps(["add", "n4"]), 1, 1))
