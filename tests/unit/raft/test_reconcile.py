"""What a follower passes on of an append, against the counter-examples and against a plain model of Raft
5.3.
"""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from raft.entries import COMMAND, Entry
from raft.reconcile import AppendView, reconcile


@dataclass
class Log:
    """A log as a list of (index, term)."""

    entries: list[tuple[int, int]]

    @property
    def first_index(self) -> int:
        return self.entries[0][0]

    @property
    def last_index(self) -> int:
        return self.entries[-1][0]

    def term_at(self, index: int) -> int:
        assert self.first_index <= index <= self.last_index
        return self.entries[index - self.first_index][1]

    def holds(self, index: int, term: int) -> bool:
        return self.first_index <= index <= self.last_index and self.term_at(index) == term


def log_of(*terms: int, first: int = 1) -> Log:
    return Log([(first + offset, term) for offset, term in enumerate(terms)])


def append(prev: tuple[int, int], *terms: int, commit: int = 0) -> AppendView:
    entries = [Entry(COMMAND, prev[0] + 1 + offset, term, b"") for offset, term in enumerate(terms)]
    return AppendView(prev[0], prev[1], commit, entries)


def as_the_engine_does(message: AppendView, log: Log) -> tuple[Log, int, int] | None:
    """PySyncObj's handler: truncate after prev, add, acknowledge, commit. None when it answers reset."""
    if not log.holds(message.prev_index, message.prev_term):
        return None
    kept = [entry for entry in log.entries if entry[0] <= message.prev_index]
    after = Log(kept + [(entry.index, entry.term) for entry in message.entries])
    next_index = message.entries[-1].index + 1 if message.entries else message.prev_index + 1
    return after, next_index, min(message.commit_index, after.last_index)


def test_a_heartbeat_behind_our_end_deletes_nothing_and_acknowledges_only_what_it_compared() -> None:
    result = reconcile(append((1, 0), commit=9), log_of(0, 1, 1, 1))
    assert (result.append.prev_index, result.append.entries) == (4, ())
    assert (result.append.commit_index, result.ack_cap, result.conflict) == (1, 2, None)


def test_a_batch_sent_again_is_not_added_again() -> None:
    result = reconcile(append((1, 0), 1, 1, commit=3), log_of(0, 1, 1, 1))
    assert (result.append.prev_index, result.append.entries, result.ack_cap) == (4, (), 4)
    assert result.append.commit_index == 3


def test_only_what_lies_behind_the_agreement_is_passed_on() -> None:
    result = reconcile(append((1, 0), 1, 1, 1), log_of(0, 1, 1))
    assert (result.append.prev_index, [e.index for e in result.append.entries]) == (3, [4])
    assert result.conflict is None


def test_a_true_conflict_is_truncated_from_its_first_entry() -> None:
    result = reconcile(append((2, 1), 3, 3), log_of(0, 1, 2, 2, 2))
    assert (result.append.prev_index, result.append.prev_term, result.conflict) == (2, 1, 3)
    assert [entry.term for entry in result.append.entries] == [3, 3]


def test_commit_is_capped_at_what_the_message_verified() -> None:
    assert reconcile(append((2, 1), commit=99), log_of(0, 1)).append.commit_index == 2


def test_entries_from_before_our_compacted_start_are_compared_from_our_first_entry_on() -> None:
    result = reconcile(append((3, 1), 1, 1, 1, 2), log_of(1, 1, 1, first=5))
    assert (result.append.prev_index, [e.index for e in result.append.entries]) == (6, [7])
    assert result.conflict == 7


def test_a_message_that_ends_before_our_first_entry_is_left_to_the_engine() -> None:
    message = append((1, 1), 1)
    assert reconcile(message, log_of(1, 1, first=5)) == (message, None, None)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Log, AppendView, list[int]]:
    """A leader's log, a follower's log that shares a prefix with it, and an append cut from the leader's
    log.
    """
    shared = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(sorted))
    leader_tail = draw(st.lists(st.integers(shared[-1], 5), max_size=5).map(sorted))
    own_tail = draw(st.lists(st.integers(shared[-1], 5), max_size=5).map(sorted))
    leader = shared + leader_tail
    compacted = draw(st.integers(0, len(shared) - 1))
    log = Log([(index + 1, term) for index, term in enumerate(shared + own_tail)][compacted:])
    prev = draw(st.integers(1, len(leader)))
    count = draw(st.integers(0, len(leader) - prev))
    entries = [Entry(COMMAND, index + 1, leader[index], b"") for index in range(prev, prev + count)]
    return log, AppendView(prev, leader[prev - 1], draw(st.integers(0, 12)), entries), leader


@given(worlds())
def test_the_rewritten_append_obeys_raft_5_3(world: tuple[Log, AppendView, list[int]]) -> None:
    """(a) what matches stays, (b) commit within what was verified, (c) conflicts go, (d) the answer promises
    no more.
    """
    log, message, leader = world
    result = reconcile(message, log)
    outcome = as_the_engine_does(result.append, log)
    if outcome is None:
        reaches = message.prev_index >= log.first_index
        assert not (reaches and log.holds(message.prev_index, message.prev_term))
        return
    after, next_index, commit = outcome
    if result.ack_cap is not None:
        next_index = min(next_index, result.ack_cap)
    verified_end = max(message.prev_index + len(message.entries), log.first_index)
    agree = True
    for index, term in log.entries:
        if message.prev_index < index <= verified_end and leader[index - 1] != term:
            agree = False
        if agree:
            assert after.holds(index, term), "an entry that does not conflict was deleted"
        elif index > verified_end:
            assert after.last_index <= verified_end, "entries after a conflict were kept"
    assert commit <= verified_end
    for index in range(log.first_index, min(next_index - 1, len(leader)) + 1):
        if index >= message.prev_index:
            assert after.holds(index, leader[index - 1]), "acknowledged what does not agree"
    assert next_index - 1 <= verified_end
    for entry in message.entries:
        if entry.index > log.first_index:
            assert after.holds(entry.index, entry.term)
