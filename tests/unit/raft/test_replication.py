"""What a leader sends, and how much of it at once."""

from pathlib import Path

import pytest

from raft.codec import CHUNK_BYTES
from raft.disk import Disk
from raft.entries import command_bytes
from raft.journal import Identity, Journal
from raft.replication import (
    DECLINED_SECONDS,
    MAX_BYTES_IN_FLIGHT,
    MAX_IN_FLIGHT,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    PROMPT_SECONDS,
    AppendPlan,
    ChunkPlan,
    Replication,
)
from raft.transfer import OutgoingSnapshot
from tests.unit.raft.peer import snapshot_file

HEARTBEAT = 0.05
ASK = 0.15


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path, Identity("cluster", "n1", 1, ("n1", "n2", "n3")), disk=Disk())
    for index in range(1, 11):
        journal.add(command_bytes(b"x" * 100), index, 1)
    return journal


@pytest.fixture
def replication(journal: Journal, tmp_path: Path) -> Replication:
    def open_snapshot() -> OutgoingSnapshot:
        return OutgoingSnapshot(snapshot_file(tmp_path, 8, CHUNK_BYTES + 1), patience=0.1, max_patience=0.2)

    replication = Replication(("n2",), journal, open_snapshot, heartbeat_interval=HEARTBEAT, ask_interval=ASK)
    replication.begin_term()
    return replication


def send(
    replication: Replication, seq: int, now: float = 0.0, *, due: bool = True, news: bool = False
) -> AppendPlan | None:
    plan = replication.plan("n2", now, due=due, news=news)
    assert not isinstance(plan, ChunkPlan)
    if plan is not None:
        replication.sent("n2", seq, plan, now)
    return plan


def add(journal: Journal, *indexes: int) -> None:
    for index in indexes:
        journal.add(command_bytes(b"y"), index, 1)


def test_a_new_leader_probes_with_one_append_in_flight(replication: Replication, journal: Journal) -> None:
    add(journal, 11)
    plan = send(replication, 1)
    assert plan is not None and (plan.prev_index, len(plan.entries)) == (10, 1)
    add(journal, 12)
    assert send(replication, 2) is None


def test_after_a_success_appends_stream_without_waiting_and_without_repetition(
    replication: Replication, journal: Journal
) -> None:
    add(journal, 11)
    send(replication, 1)
    replication.agreed("n2", 12)
    sent = []
    for index in range(12, 16):
        add(journal, index)
        plan = send(replication, index, due=False)
        assert plan is not None
        sent += [entry.index for entry in plan.entries]
    assert sent == [12, 13, 14, 15]


def test_what_is_in_flight_is_bounded(replication: Replication, journal: Journal) -> None:
    replication.agreed("n2", 11)
    for offset in range(MAX_IN_FLIGHT):
        add(journal, 11 + offset)
        assert send(replication, offset) is not None
    add(journal, 11 + MAX_IN_FLIGHT)
    assert send(replication, MAX_IN_FLIGHT) is None


def test_bytes_in_flight_are_bounded(replication: Replication, journal: Journal) -> None:
    replication.agreed("n2", 11)
    command = bytes(512 * 1024)
    sent = 0
    for index in range(11, 30):
        journal.add(command_bytes(command), index, 1)
        sent += send(replication, index) is not None
    assert sent == MAX_BYTES_IN_FLIGHT // len(command)


def test_an_unanswered_append_is_sent_again_from_the_last_match(
    replication: Replication, journal: Journal
) -> None:
    replication.agreed("n2", 11)
    add(journal, 11, 12)
    send(replication, 1, now=0.0)
    plan = send(replication, 2, now=2 * HEARTBEAT)
    assert plan is not None and [entry.index for entry in plan.entries] == [11, 12]
    assert replication.progress["n2"].probing


def test_a_refusal_goes_back_to_the_hint_and_probes(replication: Replication) -> None:
    replication.refused("n2", prev_index=10, hint=4)
    plan = send(replication, 1)
    assert plan is not None and (plan.prev_index, plan.entries[0].index) == (3, 4)


def test_a_hint_beyond_our_log_is_cut_to_its_end(replication: Replication) -> None:
    """A follower with a longer, divergent log: PySyncObj would ask for entries that do not exist, for
    ever.
    """
    replication.refused("n2", prev_index=10, hint=99)
    plan = send(replication, 1)
    assert plan is not None and plan.prev_index == 10


def test_a_late_refusal_of_what_is_matched_is_ignored(replication: Replication) -> None:
    replication.agreed("n2", 9)
    replication.refused("n2", prev_index=3, hint=2)
    assert replication.progress["n2"].next_index == 11


def test_an_answer_is_asked_for_now_and_then_and_news_of_a_commit_in_between(
    replication: Replication,
) -> None:
    replication.agreed("n2", 11)
    assert [bool(send(replication, 1, now)) for now in (0.0, ASK)] == [True, True]
    assert replication.news("n2") is None, "the question has told it"
    assert send(replication, 2, ASK + 0.01, due=False, news=True) is None
    assert replication.keeps_news
    news = replication.news("n2")
    assert news is not None and not news.wants_reply and not news.entries
    heartbeat = send(replication, 3, ASK + 0.02)
    assert heartbeat is not None and not heartbeat.wants_reply, "a heartbeat waits for nothing"
    assert replication.news("n2") is None, "it has told it"


def test_news_says_nothing_of_entries_that_are_no_longer_in_the_journal(
    replication: Replication, journal: Journal
) -> None:
    """The peer refuses an append after the step and before the news: of what is before its next entry the
    leader knows no term, and a wrong one could agree with an obsolete log.
    """
    journal.deleteEntriesTo(7)
    replication.agreed("n2", 9)
    replication.progress["n2"].has_news = True
    news = replication.news("n2")
    assert news is not None and (news.prev_index, news.prev_term) == (10, 1)
    replication.begin_term()
    replication.progress["n2"].has_news = True
    replication.refused("n2", prev_index=10, hint=3)
    assert replication.news("n2") is None


def test_an_absent_peer_is_probed_without_entries_until_it_answers(
    replication: Replication, journal: Journal
) -> None:
    replication.agreed("n2", 4)
    replication.unheard("n2")
    add(journal, 11, 12)
    probe = send(replication, 1)
    assert probe is not None and (probe.prev_index, probe.entries) == (12, [])
    replication.refused("n2", prev_index=12, hint=6)
    plan = send(replication, 2)
    assert plan is not None and plan.entries[0].index == 6


def test_a_peer_behind_the_journal_gets_the_snapshot_and_no_appends_meanwhile(
    replication: Replication, journal: Journal
) -> None:
    journal.deleteEntriesTo(7)
    replication.refused("n2", prev_index=10, hint=3)
    plan = replication.plan("n2", 0.0, due=True)
    assert isinstance(plan, ChunkPlan) and plan.number == 0
    replication.sent("n2", 1, plan, 0.0)
    assert replication.plan("n2", 0.01, due=True) is None
    assert replication.chunk_answered("n2", plan.transfer, 1, installed=False) is None
    plan = replication.plan("n2", 0.01, due=False)
    assert isinstance(plan, ChunkPlan) and (plan.number, len(plan.data)) == (1, 1)
    assert replication.chunk_answered("n2", plan.transfer, 2, installed=True) == 8
    append = send(replication, 3)
    assert append is not None and append.prev_index == 8


def test_a_late_answer_about_a_former_snapshot_says_nothing_about_the_present_one(
    replication: Replication, journal: Journal, tmp_path: Path
) -> None:
    """Else the leader would take the follower to be further than it is, and never send what it lacks."""
    journal.deleteEntriesTo(7)
    replication.refused("n2", prev_index=10, hint=3)
    plan = replication.plan("n2", 0.0, due=True)
    assert isinstance(plan, ChunkPlan)
    former = OutgoingSnapshot(snapshot_file(tmp_path, 5, CHUNK_BYTES + 1), patience=0.1, max_patience=0.2)
    assert replication.chunk_answered("n2", former, 2, installed=True) == 5
    replication.chunk_declined("n2", former)
    assert replication.match_index("n2") == 5 and replication.sends_snapshot


def test_a_peer_that_declines_a_snapshot_gets_heartbeats_and_later_another_offer(
    replication: Replication, journal: Journal
) -> None:
    journal.deleteEntriesTo(7)
    replication.refused("n2", prev_index=10, hint=3)
    chunk = replication.plan("n2", 0.0, due=True)
    assert isinstance(chunk, ChunkPlan)
    replication.sent("n2", 1, chunk, 0.0)
    replication.chunk_declined("n2", chunk.transfer)
    for seq, now in enumerate((0.1, 5.0, 9.9), start=2):
        heartbeat = send(replication, seq, now)
        assert heartbeat is not None and (heartbeat.prev_index, heartbeat.entries) == (10, [])
        replication.refused("n2", prev_index=10, hint=3)
    assert isinstance(replication.plan("n2", 0.1 + DECLINED_SECONDS, due=True), ChunkPlan)


# -- spare peers


def no_snapshot() -> OutgoingSnapshot:
    raise AssertionError("no snapshot is wanted")


@pytest.fixture
def three(journal: Journal, tmp_path: Path) -> Replication:
    """A leader's view of two peers that stream, of which n2 answered first."""
    made = Replication(("n2", "n3"), journal, no_snapshot, heartbeat_interval=HEARTBEAT, ask_interval=ASK)
    made.begin_term()
    for peer in ("n2", "n3"):
        made.agreed(peer, journal.last_index + 1)
    return made


def test_of_two_followers_one_is_waited_for_and_the_other_gets_the_rest_with_the_news(
    three: Replication, journal: Journal
) -> None:
    assert three.spares(("n2", "n3"), 0.0) == {"n3"}
    seen = []
    for number in range(3):
        add(journal, journal.last_index + 1)
        assert send(three, number, due=False)
        plan = three.plan("n3", 0.0, due=False, spare=True)
        assert plan is None and three.keeps_news
        seen.append(journal.last_index)
    news = three.news("n3")
    assert news is not None and news.wants_reply
    assert [entry.index for entry in news.entries] == seen == [11, 12, 13]
    three.sent("n3", 9, news, 0.0)
    assert three.news("n3") is None and not three.keeps_news


def test_a_spare_follower_is_sent_at_once_what_is_much_or_waited_for(
    three: Replication, journal: Journal
) -> None:
    add(journal, journal.last_index + 1)
    three.ask_all()
    plan = three.plan("n3", 0.0, due=False, spare=True)
    assert isinstance(plan, AppendPlan) and len(plan.entries) == 1, "a reader waits"
    three.sent("n3", 1, plan, 0.0)
    three.agreed("n3", journal.last_index + 1)
    add(journal, *range(journal.last_index + 1, journal.last_index + 1 + MAX_WAITING))
    assert three.plan("n3", 0.0, due=False, spare=True) is None
    add(journal, journal.last_index + 1)
    plan = three.plan("n3", 0.0, due=False, spare=True)
    assert isinstance(plan, AppendPlan) and len(plan.entries) == MAX_WAITING + 1
    three.sent("n3", 2, plan, 0.0)
    journal.add(command_bytes(b"x" * MAX_WAITING_BYTES), journal.last_index + 1, 1)
    assert three.plan("n3", 0.0, due=False, spare=True) is not None


def test_who_falls_silent_is_not_waited_for_and_nobody_is_spare_while_there_is_no_other(
    three: Replication, journal: Journal
) -> None:
    assert three.spares(("n2", "n3"), 0.0) == {"n3"}
    add(journal, journal.last_index + 1)
    assert send(three, 1, due=False)
    assert three.spares(("n2", "n3"), PROMPT_SECONDS / 2) == {"n3"}
    assert three.spares(("n2", "n3"), PROMPT_SECONDS) == {"n2"}, "n3 answers"
    three.unheard("n3")
    assert three.spares(("n2", "n3"), PROMPT_SECONDS) == set(), "all are asked"
    three.agreed("n2", journal.last_index + 1)
    assert three.spares(("n2", "n3"), 1.0) == {"n3"}


def test_of_four_followers_two_are_waited_for_and_of_one_none_is_spare(
    journal: Journal, tmp_path: Path
) -> None:
    peers = ("n2", "n3", "n4", "n5")
    five = Replication(peers, journal, no_snapshot, heartbeat_interval=HEARTBEAT, ask_interval=ASK)
    five.begin_term()
    assert five.spares(peers, 0.0) == set(), "nobody has answered yet"
    for peer in peers:
        five.agreed(peer, journal.last_index + 1)
    assert len(five.spares(peers, 0.0)) == 2
    assert five.spares(("n2",), 0.0) == set()
