"""The rules of generations, each taken away in one function; see `tests.simulation.treatments`."""

import functools
from pathlib import Path
from typing import Any

import msgspec

import raft.succession
from raft.base import Base
from raft.between import Invite
from raft.calls import Calls
from raft.change import Change, refusal
from raft.codec import Frame
from raft.core import RaftCore
from raft.correspondence import Correspondence
from raft.disk import Disk
from raft.engine import Engine
from raft.generation import Files, Generation, Sealed, Shelf
from raft.outbox import Outgoing
from raft.passage import Passage
from raft.segment import VoteState
from raft.snapshot import SnapshotStore
from raft.succession import Succession
from tests.simulation.treatments import Patch


def nothing_behind_the_seal(patch: Patch) -> None:
    """Commands behind a seal have an effect."""
    execute = Engine.execute_v0

    def regardless(self: Engine, command: bytes, **call: Any) -> Any:
        sealed, self.sealed = self.sealed, None
        try:
            return execute(self, command, **call)
        finally:
            self.sealed = sealed

    patch.setattr(Engine, "execute_v0", functools.update_wrapper(regardless, execute))


def first_seal_counts(patch: Patch) -> None:
    """A second seal replaces the first."""
    seal = Engine.seal_v0

    def the_last(self: Engine, payload: bytes, **call: Any) -> Any:
        self.sealed = None
        return seal(self, payload, **call)

    patch.setattr(Engine, "seal_v0", functools.update_wrapper(the_last, seal))


def no_snapshot_behind_the_seal(patch: Patch) -> None:
    """A snapshot may hold what comes behind the seal, and hide the seal."""
    begin = Engine._begin_snapshot

    def regardless(self: Engine, token: str, data: Any) -> None:
        sealed, self.sealed = self.sealed, None
        try:
            begin(self, token, data)
        finally:
            self.sealed = sealed

    patch.setattr(Engine, "_begin_snapshot", regardless)


def lost_disks_withdraw(patch: Patch) -> None:
    """A member that lost its disk comes after like one that slept, and votes."""
    patch.setattr(Passage, "_has_nothing", lambda self: False)


def removed_for_good(patch: Patch) -> None:
    """A restart makes a removed node a member of its last generation again."""
    withdraw = RaftCore.withdraw

    def forget(self: RaftCore, cause: str) -> None:
        if "was removed" not in cause:
            withdraw(self, cause)

    patch.setattr(RaftCore, "withdraw", forget)


def retired_ids(patch: Patch) -> None:
    """An id that was removed may come back."""

    def forgetful(now: Generation, successor: Generation, add: str | None) -> str | None:
        return refusal(msgspec.structs.replace(now, retired=()), successor, add)

    invited = Passage._invited

    def welcome(self: Passage, frame: Invite) -> str:
        offered = msgspec.structs.replace(frame.generation_now, retired=())
        return invited(self, msgspec.structs.replace(frame, generation_now=offered))

    patch.setattr(raft.succession, "refusal", forgetful)
    patch.setattr(Passage, "_invited", welcome)


def seal_waits(patch: Patch) -> None:
    """The seal is proposed though a majority of the new members is not there or not caught up."""
    patch.setattr(Change, "_lag", lambda self: None)
    patch.setattr(Change, "_missing", lambda self: None)


def learners_are_silent(patch: Patch) -> None:
    """A learner campaigns, and its frames count like a member's."""
    connected = Succession.connection_changed

    def told(self: Succession, up: bool, *, patient: bool = True) -> None:
        connected(self, up, patient=patient)
        self.core.connection_changed(up, patient=patient)

    def anybody(self: Correspondence, frame: Frame) -> bool:
        return frame.generation == self._config.generation

    patch.setattr(Succession, "connection_changed", told)
    patch.setattr(Correspondence, "_belongs", anybody)


def generations_apart(patch: Patch) -> None:
    """Frames of another generation count."""

    def belongs(self: Correspondence, frame: Frame) -> bool:
        known = frame.sender in self._peers or frame.sender in self.learners
        return known or self.drop("not_a_member", frame.sender)

    patch.setattr(Correspondence, "_belongs", belongs)


def new_files_before_old_ones_go(patch: Patch) -> None:
    """The files of a generation are removed before those of the next are durable under their name."""
    create = Shelf.create

    def hasty(self: Shelf, generation: Generation, **how: Any) -> Files:
        self.remove_older(generation.number)
        return create(self, generation, **how)

    patch.setattr(Shelf, "create", hasty)


def numbers_go_on(patch: Patch) -> None:
    """Sequence numbers begin anew in each generation."""
    patch.setattr(Correspondence, "continue_from", lambda self, seq: None)


def incarnations_go_on(patch: Patch) -> None:
    """The incarnation is not in the base: after a switch only the clock tells lives apart."""
    write = Base.write_journal

    def forgetful(self: Base, directory: Path, vote: VoteState, entries: Any) -> None:
        write(self, directory, msgspec.structs.replace(vote, incarnation=0), entries)

    patch.setattr(Base, "write_journal", forgetful)


def terms_go_on(patch: Patch) -> None:
    """Terms begin anew in each generation."""
    write = Base.write

    def from_zero(self: Base, directory: Path, previous: Any, last: Any, parts: Any, **how: Any) -> None:
        previous = msgspec.structs.replace(previous, term=0)
        write(self, directory, previous, msgspec.structs.replace(last, term=0), parts, **how)

    patch.setattr(Base, "write", from_zero)


def base_is_the_seals_state(patch: Patch) -> None:
    """The next generation begins with the last snapshot's state under the seal's index."""
    write = Base.write

    def older(self: Base, directory: Path, previous: Any, last: Any, parts: Any, **how: Any) -> None:
        former = (self._generation - 1, directory.parent / f"generation-{self._generation - 1:010d}")
        for generation, path in (former, (1, directory.parent)):
            store = SnapshotStore(path, self._cluster, generation, Disk())
            if store.exists:
                parts = [store.load().machine]
                break
        write(self, directory, previous, last, parts, **how)

    patch.setattr(Base, "write", older)


def base_ends_at_the_seal(patch: Patch) -> None:
    """The next generation begins behind whatever the log of the old one ended with."""
    succeed = Succession._succeed

    def at_the_end(self: Succession, sealed: Sealed) -> list[Outgoing]:
        last = self.core.journal.last_index
        return succeed(self, Sealed(last, self.core.journal.term_at(last), sealed.successor))

    patch.setattr(Succession, "_succeed", at_the_end)


def unknown_when_missed(patch: Patch) -> None:
    """A node that hears of the end of a generation takes its calls for void, and makes them again."""
    end = Calls.end

    def surely_not(self: Calls, cause: str, *, seal_applied: bool) -> None:
        end(self, cause, seal_applied=True)

    patch.setattr(Calls, "end", surely_not)


def strangers_prove_themselves(patch: Patch) -> None:
    """Only who was a member is believed to be one of a newer generation."""
    patch.setattr(Generation, "comes_after", lambda self, former: False)
