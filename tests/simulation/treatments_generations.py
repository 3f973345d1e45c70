"""The rules of generations, each taken away in one function; see `tests.simulation.treatments`."""

import functools
from pathlib import Path
from typing import Any

import msgspec

import raft.succession
from raft.again import Again
from raft.base import Base, Writing
from raft.between import Invite
from raft.calls import Calls
from raft.change import Change, refusal
from raft.codec import Frame
from raft.core import RaftCore
from raft.correspondence import Correspondence
from raft.engine import SEALED, Engine
from raft.entries import Entry
from raft.errors import OutcomeUnknown, Unavailable
from raft.generation import Generation, Sealed, Shelf
from raft.outbox import Outgoing
from raft.outcomes import Done, Outcome
from raft.passage import Passage
from raft.segment import VoteState
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


def commit_ends_at_the_seal(patch: Patch) -> None:
    """What is committed behind a seal counts as committed until the seal is applied."""

    def once_applied(self: Engine, index: int) -> int:
        return index if self.sealed is None else min(index, self.sealed.index)

    patch.setattr(Engine, "until_seal", once_applied)


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
    begin = Shelf.begin

    def hasty(self: Shelf, generation: Generation) -> Path:
        self.remove_older(generation.number)
        return begin(self, generation)

    patch.setattr(Shelf, "begin", hasty)


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
    begin = Writing.__init__

    def from_zero(
        self: Writing, base: Base, directory: Path, background: Any, previous: Entry, last: Entry, parts: Any
    ) -> None:
        previous, last = (msgspec.structs.replace(entry, term=0) for entry in (previous, last))
        begin(self, base, directory, background, previous, last, parts)

    patch.setattr(Writing, "__init__", from_zero)


def base_is_the_seals_state(patch: Patch) -> None:
    """The next generation begins with the last snapshot's state under the seal's index."""
    begin = Succession._begin_base

    def older(self: Succession, sealed: Sealed) -> Writing:
        machine, store = self._machine, self.core.store
        self._machine = _Held(store.load().machine) if store.exists else machine
        try:
            return begin(self, sealed)
        finally:
            self._machine = machine

    patch.setattr(Succession, "_begin_base", older)


class _Held:
    """A machine that gives these bytes for its state."""

    def __init__(self, state: bytes) -> None:
        self._state = state

    def snapshot(self) -> list[bytes]:
        return [self._state]

    def apply(self, index: int, command: bytes) -> bytes:
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        raise NotImplementedError


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


# -- while a base is written ------------------------------------


def machine_stands_still(patch: Patch) -> None:
    """What the old generation applies while its base is written has an effect, though not on the base."""
    begin, execute = Succession._begin_base, Engine.execute_v0
    writing: set[Engine] = set()

    def noted(self: Succession, sealed: Sealed) -> Writing:
        writing.add(self.core.engine)
        return begin(self, sealed)

    def goes_on(self: Engine, command: bytes, **call: Any) -> Any:
        sealed = self.sealed
        self.sealed = None if self in writing else sealed
        try:
            return execute(self, command, **call)
        finally:
            self.sealed = sealed

    patch.setattr(Succession, "_begin_base", noted)
    patch.setattr(Engine, "execute_v0", functools.update_wrapper(goes_on, execute))


def base_before_the_switch(patch: Patch) -> None:
    """The next generation begins when its base is begun, not when it is durable."""
    patch.setattr(Writing, "done", True)


def removed_linger(patch: Patch) -> None:
    """Who is removed withdraws as soon as it has applied the seal."""
    succeed = Succession._succeed

    def at_once(self: Succession, sealed: Sealed) -> list[Outgoing]:
        successor = sealed.successor
        if self._given.node_id in successor.members:
            return succeed(self, sealed)
        return self._switch(self._shelf.create(successor, learner=False))

    patch.setattr(Succession, "_succeed", at_once)


def kept_calls_are_made(patch: Patch) -> None:
    """Calls that are kept while a base is written are forgotten."""
    make = Again.make

    def forget(self: Again) -> None:
        self._calls = []
        make(self)

    patch.setattr(Again, "make", forget)


def kept_calls_are_made_once(patch: Patch) -> None:
    """Calls that are kept while a base is written are made twice."""
    make = Again.make

    def twice(self: Again) -> None:
        calls = list(self._calls)
        make(self)
        for call in calls:
            call()

    patch.setattr(Again, "make", twice)


def only_void_calls_are_kept(patch: Patch) -> None:
    """A call that ends unknown at the end of a generation is kept, and made again."""

    def any_end(self: Succession, done: Done, again: Any, size: int) -> Done:
        core = self.core

        def heard(outcome: Outcome) -> None:
            ended = isinstance(outcome, Unavailable | OutcomeUnknown) and outcome.cause == SEALED
            if not (ended and core is self.core and self._again.keep(again, size)):
                done(outcome)

        return heard

    patch.setattr(Succession, "_again_unless_told", any_end)
