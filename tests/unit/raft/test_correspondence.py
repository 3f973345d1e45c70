"""Which frames count: the guards against strangers, repetition and the past."""

from pathlib import Path

import msgspec
import pytest

from raft.codec import Vote, VoteReply
from raft.config import RaftConfig
from raft.correspondence import Asked, Correspondence
from raft.counters import Counters

OWN_INCARNATION = 50


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def letters(tmp_path: Path, counters: Counters) -> Correspondence:
    config = RaftConfig("n1", ("n1", "n2", "n3"), "cluster", tmp_path)
    return Correspondence(config, OWN_INCARNATION, counters)


def vote(seq: int = 1, incarnation: int = 7) -> Vote:
    return Vote("cluster", 1, "n2", incarnation, 3, seq, 9, 2)


def reply(answers_seq: int, sender: str = "n2") -> VoteReply:
    return VoteReply("cluster", 1, sender, 7, 3, 1, OWN_INCARNATION, answers_seq, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster": "other"}, "other_cluster"),
        ({"generation": 2}, "other_generation"),
        ({"sender": "stranger"}, "not_a_member"),
        ({"sender": "n1"}, "not_a_member"),
    ],
)
def test_a_frame_from_outside_is_dropped_and_counted(
    letters: Correspondence, counters: Counters, change: dict[str, object], reason: str
) -> None:
    assert not letters.admits_request(msgspec.structs.replace(vote(), **change))
    assert counters.frames_dropped == {reason: 1}


def test_a_request_counts_once(letters: Correspondence, counters: Counters) -> None:
    assert letters.admits_request(vote(seq=5))
    assert not letters.admits_request(vote(seq=5))
    assert counters.frames_dropped == {"not_newer": 1}


def test_a_request_overtaken_by_a_newer_one_is_dropped(letters: Correspondence) -> None:
    assert letters.admits_request(vote(seq=5))
    assert not letters.admits_request(vote(seq=4))
    assert letters.admits_request(vote(seq=6))


def test_a_restarted_sender_begins_anew_and_its_former_life_is_over(letters: Correspondence) -> None:
    assert letters.admits_request(vote(seq=900))
    assert letters.admits_request(vote(seq=1, incarnation=8))
    assert not letters.admits_request(vote(seq=901))


def test_a_reply_counts_once(letters: Correspondence, counters: Counters) -> None:
    """The engine would count the vote of one peer twice."""
    asked = Asked("n2", 3, None)
    letters.expect_reply(11, asked)
    assert letters.match_reply(reply(11)) == asked
    assert letters.match_reply(reply(11)) is None
    assert counters.frames_dropped == {"unasked": 1}


def test_a_reply_counts_only_from_whom_was_asked(letters: Correspondence) -> None:
    letters.expect_reply(11, Asked("n2", 3, None))
    assert letters.match_reply(reply(11, sender="n3")) is None
    assert letters.match_reply(reply(11)) is not None


def test_a_reply_to_a_former_incarnation_is_dropped(letters: Correspondence) -> None:
    letters.expect_reply(11, Asked("n2", 3, None))
    assert letters.match_reply(msgspec.structs.replace(reply(11), answers_incarnation=49)) is None


def test_sequence_numbers_grow(letters: Correspondence) -> None:
    first, second = letters.stamp(3)[-1], letters.stamp(3)[-1]
    assert second == first + 1
