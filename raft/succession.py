"""One node through all generations: the core of the present one, and the way into the next.

A `Succession` has the face of a `RaftCore`, whose calls it passes on to the core of the generation that runs.
Beside that, in the same steps:

- **Switch.** When a step has applied a seal, its frames leave (they carry the commit index that lets others
  apply the seal too); then the base of the next generation is written, the core of the old one closed and
  that of the new one opened. Who led campaigns first. Calls that were in flight here come behind the seal and
  have no effect, so they are made again in the new generation, and nobody hears of it.
- **Laggard and newcomer.** Frames of other generations go to `raft.passage`: a change that was missed ends in
  a base from another node, an invitation makes this node a learner. With `join` and no files a node is in
  generation 0, where it waits. A learner answers appends and snapshot chunks; it neither votes nor campaigns,
  for its core is told of no bus.
- **Removed.** A node that is not among the new members keeps their names, withdraws, answers nobody and stays
  alive; also after a restart.

A crash between any two of these leaves either the old generation, whose seal is applied again, or the new
one, whole (`raft.generation`).

Sequence numbers and the incarnation go on through a switch, so that no late answer and no late "nobody is
there" can be taken for one to a newer frame. The files of a generation know the incarnation from the moment
they have their name, so that a process that comes after a crash has a higher one.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raft.base import Base
from raft.between import Invite, is_between
from raft.change import Change, Result, refusal
from raft.codec import Frame
from raft.compaction import Background
from raft.config import RaftConfig
from raft.core import RaftCore, wall_clock_ms
from raft.counters import Counters
from raft.disk import Disk
from raft.engine import SEALED, StateMachine
from raft.errors import ChangeRefused, NotLeader, Unavailable
from raft.generation import Files, Generation, Sealed, Shelf
from raft.guard import Guard
from raft.outbox import Outgoing
from raft.outcomes import Done, Outcome
from raft.passage import Passage
from raft.present import Present
from raft.segment import VoteState
from raft.snapshot import SnapshotWriter

MOST_AGAIN = 4_096

log = logging.getLogger("raft")


class Succession(Present):
    """Opens the newest generation in `config.data_dir`. Raises what `RaftCore` does."""

    def __init__(
        self,
        config: RaftConfig,
        machine: StateMachine,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = wall_clock_ms,
        disk: Disk | None = None,
        counters: Counters | None = None,
        background: Background | None = None,
    ) -> None:
        self._given, self._machine, self._clock, self._wall_ms = config, machine, clock, wall_ms
        self._disk, self._background = disk or Disk(), background
        self._counters = counters or Counters()
        self._shelf = Shelf(config.data_dir, config.cluster_id, config.node_id, self._disk)
        self._guarded = Guard(self)
        self._connected: tuple[bool, bool] | None = None
        self._answer_to, self._frame = "", b""
        self._passage = Passage(
            self, config, clock, lambda: SnapshotWriter(self._disk, config.data_dir / "fetched.tmp")
        )
        self._left: list[Outgoing] = []
        self._change: Change | None = None
        self._again: list[Callable[[], None]] = []
        self._was_ready = self._heard_own_hello = self._switched = self._tidy = False
        files = self._shelf.newest() or self._first()
        self.generation = files.generation
        removed = not files.learner and config.node_id not in files.generation.members
        if removed:
            older = self._shelf.newest(below=files.generation.number)
            files = older if older is not None else files
        self.is_learner = files.learner
        self._pristine = b"".join(machine.snapshot()) if config.join else b""
        self.core = self._open(files, as_given=not removed and not config.join)
        if removed:
            self.core.withdraw(self._removed_in(self.generation))

    def _first(self) -> Files:
        members = tuple(sorted(self._given.members))
        if self._given.join:
            return self._shelf.create(Generation(0, members), learner=True)
        return Files(self._given.data_dir, Generation(1, members), learner=False)

    def _open(
        self,
        files: Files,
        *,
        as_given: bool = False,
        incarnation: int | None = None,
        campaign: bool = False,
    ) -> RaftCore:
        """`as_given`: generation 1 has the configured members, or refuses them."""
        first = as_given and files.directory == self._given.data_dir
        config = replace(
            self._given,
            members=self._given.members if first else files.generation.members,
            generation=files.generation.number,
            data_dir=files.directory,
            join=self._given.node_id not in files.generation.members,
        )
        core = RaftCore(
            config,
            self._machine,
            clock=self._clock,
            wall_ms=self._wall_ms,
            incarnation=incarnation,
            disk=self._disk,
            counters=self._counters,
            background=self._background,
            campaign_at_once=campaign,
        )
        core.letters.foreign = self._foreign
        self._base_index, self._tidy = core.applied_index, files.generation.number <= 1
        return core

    # -- the face of a core ------------------------------------

    @property
    def leads_applied(self) -> bool:
        """As of `RaftCore`; a generation that has ended is served by nobody."""
        return self.core.leads_applied and self.core.engine.sealed is None

    @property
    def ready(self) -> bool:
        """As of `RaftCore`; who was ready stays so in the next generation."""
        return self.core.failure is None and (self._was_ready or self.core.ready)

    @property
    def learners(self) -> list[str]:
        """Who follows without being a member, as far as this node knows: itself, or those it leads."""
        if self.is_learner:
            return [self._given.node_id] if self.generation.number else []
        return list(self.core.leader.replication.learners) if self.core.is_leader else []

    @property
    def has_begun(self) -> bool:
        """Whether this generation has committed an entry of its own."""
        return not self.is_learner and self.core.commit_index > self._base_index

    @property
    def heard_own_hello(self) -> bool:
        """As of `RaftCore`."""
        return self._heard_own_hello or self.core.heard_own_hello

    @property
    def wants_tick(self) -> bool:
        """As of `RaftCore`; and a new generation begins with a tick."""
        return self._switched or self.core.wants_tick

    def rest(self) -> float:
        """As of `RaftCore`."""
        busy = self._change is not None or self._passage.busy
        rest = self.core.rest()
        return min(rest, self._given.heartbeat_interval / 2) if busy else rest

    def propose(self, command: bytes, done: Done) -> None:
        """As `RaftCore.propose`, through a change of generation."""
        self.core.propose(command, self._again_unless_told(done, lambda: self.propose(command, done)))

    def read(self, done: Done) -> None:
        """As `RaftCore.read`, through a change of generation."""
        self.core.read(self._again_unless_told(done, lambda: self.read(done)))

    def connection_changed(self, connected: bool, *, patient: bool = True) -> None:
        """As `RaftCore.connection_changed`; a learner's core is not told, so it never campaigns."""
        self._connected = connected, patient
        if not self.is_learner:
            self.core.connection_changed(connected, patient=patient)

    def withdraw(self, cause: str) -> None:
        """As `RaftCore.withdraw`; also in the middle of a switch."""
        if self.core.failure == SEALED:
            self.core.failure = cause
        self.core.withdraw(cause)

    def close(self) -> None:
        """Give the files back."""
        self._passage.close()
        self.core.close()

    # -- inputs ------------------------------------------------

    def receive(self, data: bytes, reply_to: str) -> bool:
        """As `RaftCore.receive`; frames between generations are taken here."""
        if self.core.failure is not None:
            return False
        if not is_between(data):
            self._answer_to, self._frame = reply_to, data
            return self.core.receive(data, reply_to) or self._passage.speaks
        self._counters.frames_received += 1
        with self._guarded:
            self._passage.request(data, reply_to)
        return True

    def receive_reply(self, data: bytes) -> bool:
        """As `RaftCore.receive_reply`; frames between generations are taken here."""
        if self.core.failure is not None:
            return False
        if not is_between(data):
            self._answer_to = ""
            return self.core.receive_reply(data)
        self._counters.frames_received += 1
        with self._guarded:
            self._passage.reply(data)
        return True

    def nobody_there(self, seq: int) -> None:
        """As `RaftCore.nobody_there`."""
        if not self._passage.nobody_there(seq):
            self.core.nobody_there(seq)

    def change(
        self, add: str | None, remove: str | None, timeout: float, done: Callable[[Result], None]
    ) -> None:
        """Change the members; `done` hears from within a step. Raises `NotLeader`, `ChangeRefused`."""
        successor = self.check_change(add, remove)
        if successor is None:
            done(self.generation)
            return
        if self._change is not None:
            raise ChangeRefused("another change is under way. Repeat in a moment")
        newcomer = add if add not in self.generation.members else None
        now = self._clock()
        self._change = Change(self, successor, newcomer, now=now, timeout=timeout, done=done)

    def check_change(self, add: str | None, remove: str | None) -> Generation | None:
        """What would come after this generation; None when the members are so already. Raises `NotLeader`,
        `ChangeRefused`.
        """
        if not self.core.is_leader:
            raise NotLeader(self.core.leader_id)
        now = self.generation
        successor = now.succeeded_by(add=add, remove=remove)
        why_not = refusal(now, successor, add)
        if why_not is not None:
            raise ChangeRefused(why_not)
        return None if successor.members == now.members else successor

    # -- the step ----------------------------------------------

    def tick(self) -> None:
        """As `RaftCore.tick`; then what is under way between generations goes on."""
        self._switched = False
        self.core.tick()
        if self.core.failure is not None:
            return
        now = self._clock()
        with self._guarded:
            if self._change is not None:
                self._change.tick(now)
                self._change = None if self._change.over else self._change
            if self.core.engine.sealed is None:
                self._passage.come_after(now)

    def flush(self, *, keep_news: bool = False) -> list[Outgoing]:
        """As `RaftCore.flush`; a generation that has ended, or was missed, gives way to the next one."""
        sealed = self.core.engine.sealed
        frames = self.core.flush(keep_news=keep_news and sealed is None)
        if self.core.failure is None:
            with self._guarded:
                if sealed is not None:
                    frames += self._succeed(sealed)
                elif self._passage.fetched is not None:
                    frames += self._adopt(*self._passage.fetched)
                elif not self._tidy and self.core.commit_index > self._base_index:
                    self._tidy = True
                    self._shelf.remove_older(self.generation.number)
        if self.core.failure is not None and self._change is not None:
            self._change.give_up(self.core.failure)
            self._change = None
        outgoing = self._left + self._passage.take()
        self._left = []
        self._counters.frames_sent += len(outgoing)
        return [*frames, *outgoing]

    # -- into the next generation ------------------------------

    def _succeed(self, sealed: Sealed) -> list[Outgoing]:
        previous, last = self.core.journal.typed(sealed.index - 1, 2, 2**62)
        assert last.index == sealed.index
        incarnation = self.core.letters.incarnation

        def fill(directory: Path) -> None:
            parts = self._machine.snapshot()
            base = self._base(sealed.successor)
            base.write(directory, previous, last, parts, incarnation=incarnation)

        return self._switch(sealed.successor, fill, campaign=self.core.is_leader)

    def _adopt(self, generation: Generation, file: SnapshotWriter) -> list[Outgoing]:
        self._passage.fetched = None
        incarnation = self.core.letters.incarnation

        def fill(directory: Path) -> None:
            self._base(generation).adopt(directory, file, incarnation=incarnation)

        return self._switch(generation, fill, campaign=False)

    def _base(self, generation: Generation) -> Base:
        given, number, members = self._given, generation.number, generation.members
        return Base(
            self._disk, cluster=given.cluster_id, node=given.node_id, generation=number, members=members
        )

    def _switch(
        self,
        generation: Generation,
        fill: Callable[[Path], None] | None,
        *,
        campaign: bool,
        learner: bool = False,
    ) -> list[Outgoing]:
        """Make the files of `generation`, end the present one, and go on in the new one if it has a place
        here.
        """
        stays = learner or self._given.node_id in generation.members
        files = self._shelf.create(generation, learner=learner, fill=fill if stays else None)
        old, self._was_ready = self.core, self.ready and not self.is_learner
        self._heard_own_hello = self.heard_own_hello
        if not stays:
            self.generation = generation
            frames = old.end(self._removed_in(generation))
            log.warning("%s", self._removed_in(generation))
            old.close()
            return frames
        frames = old.end(SEALED)
        old.close()
        self.generation, self.is_learner = generation, learner
        self._switched, early = True, self._passage.over()
        if learner:
            self._machine.restore(self._pristine)
        self.core = self._open(files, incarnation=old.letters.incarnation, campaign=campaign)
        self.core.letters.continue_from(old.letters.last_seq)
        log.info("generation %d: %s", generation.number, ", ".join(generation.members))
        if self._connected is not None:
            self.connection_changed(self._connected[0], patient=False)
        self.core.await_leader()
        for data, reply_to in early:
            self.receive(data, reply_to)
        again, self._again = self._again, []
        for call in again:
            call()
        return frames

    def _removed_in(self, generation: Generation) -> str:
        return f"this node was removed from the cluster in generation {generation.number}"

    def _again_unless_told(self, done: Done, again: Callable[[], None]) -> Done:
        core = self.core

        def heard(outcome: Outcome) -> None:
            ended = isinstance(outcome, Unavailable) and outcome.cause == SEALED
            if ended and len(self._again) < MOST_AGAIN and (core is not self.core or core.engine.sealed):
                self._again.append(again)
            else:
                done(outcome)

        return heard

    # -- what frames between generations lead to ---------------

    def _foreign(self, frame: Frame) -> None:
        """A frame of this cluster, of another generation, in the middle of `receive`."""
        self._passage.foreign(frame, self._frame, self._answer_to)

    def ask(self, peer: str, rpc: str, frame: Invite) -> None:
        """Ask a newcomer with this step."""
        self._passage.ask(peer, rpc, frame)

    def invited_to(self, generation: Generation) -> None:
        """Follow this generation as a learner."""
        vote = VoteState(incarnation=self.core.letters.incarnation)

        def fill(directory: Path) -> None:
            self._base(generation).write_journal(directory, vote, ())

        self._left += self._switch(generation, fill, campaign=False, learner=True)

    def removed_by(self, generation: Generation) -> None:
        """A newer generation is told of, without this node."""
        self._left += self._switch(generation, None, campaign=False)

    def newcomer_answered(self, name: str, refusal: str) -> None:
        """An invitation was answered."""
        if self._change is not None:
            self._change.answered(name, refusal)
