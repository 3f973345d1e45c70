"""What a generation is, in a seal, in a directory, and in the frames that tell of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from raft import between, codec
from raft.between import Fetch, FetchReply, Invite, InviteReply, NewerGeneration, is_between
from raft.codec import AppendReply, CallReply, Frame, Hello, Read, Vote
from raft.correspondence import Asked, Correspondence
from raft.counters import Counters
from raft.disk import Disk
from raft.entries import COMMAND, NOOP, SEAL, Entry, from_engine, to_engine
from raft.errors import JournalCorrupt, OutcomeUnknown, Unavailable, WrongCluster
from raft.generation import Generation, Shelf, decode_seal, encode_seal
from raft.outcomes import Committed, Outcome
from raft.reads import Reads
from tests.unit.raft.peer import Clock, Open, Peer, elected, lead, member, single

THREE = Generation(1, ("n1", "n2", "n3"))
STAMP = ("cluster", 1, "n1", 1, 1, 1)


def test_a_successor_adds_and_removes_and_retires_for_good() -> None:
    second = THREE.succeeded_by(add="n4", remove="n1")
    assert second == Generation(2, ("n2", "n3", "n4"), ("n1",))
    assert second.succeeded_by(add=None, remove="n2").retired == ("n1", "n2")
    assert second.succeeded_by(add=None, remove="n9").retired == ("n1",)


def test_a_later_generation_of_the_same_cluster_knows_all_former_members() -> None:
    second = THREE.succeeded_by(add="n4", remove="n1")
    later = second.succeeded_by(add="n5", remove="n2")
    assert second.comes_after(THREE) and later.comes_after(THREE) and later.comes_after(second)
    assert not THREE.comes_after(THREE) and not second.comes_after(later)
    assert not Generation(7, ("n1", "n9")).comes_after(THREE), "another cluster's"
    assert not Generation(7, ("n2", "n3", "n4")).comes_after(second), "it does not know who was removed"


@pytest.mark.parametrize("payload", [b"", b"no msgpack", encode_seal(Generation(2, ()))])
def test_a_seal_that_names_no_generation_is_none(payload: bytes) -> None:
    assert decode_seal(payload) is None
    assert decode_seal(encode_seal(THREE)) == THREE


@pytest.mark.parametrize("kind", [COMMAND, NOOP, SEAL])
def test_each_kind_of_entry_survives_the_engines_form(kind: int) -> None:
    entry = Entry(kind, 7, 2, b"" if kind == NOOP else b"payload")
    assert from_engine(to_engine(entry)) == entry


def test_the_newest_generation_is_the_one_to_run(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "c", "n1", Disk())
    assert shelf.newest() is None
    for number in (2, 10, 3):
        shelf.create(Generation(number, ("n1",)), learner=number == 3)
    newest, before = shelf.newest(), shelf.newest(below=10)
    assert newest is not None and newest.generation.number == 10 and not newest.learner
    assert before is not None and before.generation.number == 3 and before.learner


def test_a_directory_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "c", "n1", Disk())

    def fill(directory: Path) -> None:
        (directory / "snapshot").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        shelf.create(Generation(2, ("n1",)), learner=False, fill=fill)
    assert shelf.newest() is None
    assert shelf.create(Generation(2, ("n1",)), learner=False).directory.is_dir()


def test_older_generations_are_removed_and_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "c", "n1", Disk())
    for number in (2, 3):
        shelf.create(Generation(number, ("n1",)), learner=False)
    for name in ("journal-0000000001.log", "snapshot", "engine.dump", "lock"):
        (tmp_path / name).write_bytes(b"x")
    shelf.remove_older(3)
    assert {path.name for path in tmp_path.iterdir()} == {"generation-0000000003", "lock"}


def test_a_generation_of_somebody_else_is_refused(tmp_path: Path) -> None:
    Shelf(tmp_path, "c", "n1", Disk()).create(Generation(2, ("n1",)), learner=False)
    for cluster, node in (("other", "n1"), ("c", "n2")):
        with pytest.raises(WrongCluster):
            Shelf(tmp_path, cluster, node, Disk()).newest()


def test_every_flipped_bit_of_the_generations_file_is_found(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "c", "n1", Disk())
    path = shelf.create(Generation(2, ("n1",)), learner=False).directory / "generation"
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt):
            shelf.newest()


def test_frames_between_generations_are_told_by_their_tag() -> None:
    answers = (1, 1)
    own: tuple[Frame, ...] = (
        Invite(*STAMP, THREE),
        Fetch(*STAMP, 0, 0),
        InviteReply(*STAMP, *answers, ""),
        FetchReply(*STAMP, *answers, THREE, 3, 1, 0, b"abc"),
        NewerGeneration(*STAMP, *answers, THREE),
    )
    for frame in own:
        data = codec.encode(frame)
        assert is_between(data)
        decode = between.decode_reply if isinstance(frame, codec.Reply) else between.decode_request
        assert decode(data) == frame
    others: tuple[Frame, ...] = (
        Hello(*STAMP),
        Read(*STAMP),
        Vote(*STAMP, 1, 1),
        CallReply(*STAMP, *answers, "committed", 1, 1, b"", ""),
    )
    assert not any(is_between(codec.encode(frame)) for frame in others)
    assert not any(is_between(data) for data in (b"", b"\x01", b"\x01\x90", b"\x01\x90\xff"))


def test_a_learners_answer_counts_for_an_append_and_for_nothing_else(tmp_path: Path) -> None:
    letters = Correspondence(member(tmp_path), 5, Counters())
    stamp = ("cluster", 1, "n4", 1, 1, 1)
    for learners, counts in ((frozenset[str](), False), (frozenset(("n4",)), True)):
        letters.learners = learners
        letters.expect_reply(9, Asked("n4", 1, None))
        assert (letters.match_reply(AppendReply(*stamp, 5, 9, True, 3)) is not None) is counts
    for reply in (
        codec.VoteReply(*stamp, 5, 9, True),
        codec.PreVoteReply(*stamp, 5, 9, True),
        AppendReply("cluster", 1, "n4", 1, 2, 1, 5, 9, True, 3),
    ):
        letters.expect_reply(9, Asked("n4", 1, None))
        assert letters.match_reply(reply) is None
    assert not letters.admits_request(Vote(*stamp, 1, 1))


def test_a_learners_answer_does_not_confirm_a_read() -> None:
    reads = Reads(("n2", "n3"), Counters())
    reads.add(lambda outcome: None)
    reads.begin(5, 10)
    reads.answered("n4", 11)
    assert reads.take_confirmed() is None
    reads.answered("n2", 11)
    assert reads.take_confirmed() is not None


def test_a_learner_votes_for_nobody(tmp_path: Path) -> None:
    letters = Correspondence(member(tmp_path), 5, Counters())
    assert letters.admits_request(Vote("cluster", 1, "n2", 1, 1, 1, 1, 1))
    learner = Correspondence(replace(member(tmp_path), members=("n2", "n3"), join=True), 5, Counters())
    assert not learner.admits_request(Vote("cluster", 1, "n2", 1, 1, 1, 1, 1))


def test_what_follows_a_seal_has_no_effect(open_core: Open, clock: Clock, tmp_path: Path) -> None:
    core = open_core(single(tmp_path / "n1"))
    elected(core, clock)
    outcomes: list[Outcome] = []
    core.propose(b"before", outcomes.append)
    core.propose_seal(Generation(2, ("n1", "n2")), outcomes.append)
    core.propose(b"after", outcomes.append)
    core.propose_seal(Generation(2, ("n1", "n3")), outcomes.append)
    for _ in range(3):
        core.tick()
        core.flush()
    before, seal, *rest = outcomes
    assert isinstance(before, Committed) and isinstance(seal, Committed)
    assert len(rest) == 2 and all(isinstance(outcome, Unavailable) for outcome in rest)
    sealed = core.engine.sealed
    assert sealed is not None and sealed.successor == Generation(2, ("n1", "n2"))
    assert (sealed.index, core.applied_index, core.commit_index) == (seal.index,) * 3
    core.close()


def test_a_seal_of_another_generation_has_no_effect(open_core: Open, clock: Clock, tmp_path: Path) -> None:
    core = open_core(single(tmp_path / "n1"))
    elected(core, clock)
    outcomes: list[Outcome] = []
    core.propose_seal(Generation(3, ("n1",)), outcomes.append)
    core.propose(b"after", outcomes.append)
    for _ in range(3):
        core.tick()
        core.flush()
    assert isinstance(outcomes[0], Unavailable) and isinstance(outcomes[1], Committed)
    assert core.engine.sealed is None
    core.close()


def test_who_hears_of_the_end_before_the_seal_knows_nothing_of_commands_in_flight(
    open_core: Open, clock: Clock, tmp_path: Path
) -> None:
    core = open_core(member(tmp_path / "n1"))
    lead(core, clock)
    outcomes: list[Outcome] = []
    core.propose(b"in flight", outcomes.append)
    core.read(outcomes.append)
    core.tick()
    core.flush()
    core.end("the generation has ended")
    assert [type(outcome) for outcome in outcomes] == [Unavailable, OutcomeUnknown], "the read, the command"
    assert Peer(core).ask(codec.Read, core.term) is None
    core.close()
