"""One node through all generations: the core of the present one, and the way into the next.

A `Succession` has the face of a `RaftCore`, whose calls it passes on to the core of the generation that runs.
Beside that, in the same steps:

- **Switch.** When a step has applied a seal, its frames leave (they carry the commit index that lets others
  apply the seal too), and the state, which no command changes any more, is written in the background as the
  base of the next generation. The old core goes on meanwhile: it tells others of the seal, and whatever it
  votes or acknowledges still is of entries behind the seal, without effect. When the base is durable, the old
  core is closed and the new one opened, on the state as the machine holds it. Who led campaigns first.
- **Calls.** What was in flight here comes behind the seal and has no effect. It is kept, with what comes in
  before the switch, and made again in the new generation, so nobody hears of it.
- **Laggard and newcomer.** Frames of other generations go to `raft.passage`: a change that was missed ends in
  a base from another node, an invitation makes this node a learner. With `join` and no files a node is in
  generation 0, where it waits. A learner answers appends and snapshot chunks; it neither votes nor campaigns,
  for its core is told of no bus.
- **Removed.** A node that is not among the new members goes on in the old generation, serving nobody, until
  one of them tells that it has a base: as long as none has, its vote and its log may be what the others need
  to find the seal again. Then it keeps their names, withdraws, answers nobody and stays alive; also after a
  restart.

A crash between any two of these leaves either the old generation, whose seal is applied again, or the new
one, whole (`raft.generation`). A majority of the old generation is there until one node has the base of the
new one, and from that one all others can get it.

Sequence numbers and the incarnation go on through a switch, so that no late answer and no late "nobody is
there" can be taken for one to a newer frame. The files of a generation know the incarnation from the moment
they have their name, so that a process that comes after a crash has a higher one.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from raft.again import Again
from raft.base import Base, Writing
from raft.between import Invite, is_between
from raft.change import Change, Result, refusal
from raft.codec import Frame
from raft.compaction import Background, Inline
from raft.config import RaftConfig
from raft.core import RaftCore, wall_clock_ns
from raft.counters import Counters
from raft.disk import Disk
from raft.engine import SEALED, MachineAt, StateMachine
from raft.errors import ChangeRefused, NotLeader, Unavailable
from raft.generation import Files, Generation, Sealed, Shelf
from raft.guard import Guard
from raft.outbox import Outgoing
from raft.outcomes import Done, Outcome
from raft.passage import Passage
from raft.present import Present
from raft.segment import VoteState
from raft.snapshot import SnapshotWriter

PATIENCE = 2.0
"""Times as long as this node took for its base, calls wait for the others to have theirs and a leader."""
UNDER_WAY = "another change is under way. Repeat in a moment"
LOOK_SECONDS = 0.005
"""How often a base that is being written is looked at."""

log = logging.getLogger("raft")


class Succession(Present):
    """Opens the newest generation in `config.data_dir`. Raises what `RaftCore` does."""

    def __init__(
        self,
        config: RaftConfig,
        machine: StateMachine,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = wall_clock_ns,
        disk: Disk | None = None,
        counters: Counters | None = None,
        background: Background | None = None,
    ) -> None:
        self._given, self._machine, self._clock, self._wall_ns = config, machine, clock, wall_ns
        self._disk, self._background = disk or Disk(), background or Inline()
        self._counters = counters or Counters()
        self._shelf = Shelf(
            config.data_dir, config.cluster_id, config.node_id, self._disk, members=config.members
        )
        self._guarded = Guard(self)
        self._connected: tuple[bool, bool] | None = None
        self._answer_to, self._frame = "", b""
        self._passage = Passage(
            self, config, clock, lambda: SnapshotWriter(self._disk, config.data_dir / "fetched.tmp")
        )
        self._left: list[Outgoing] = []
        self._change: Change | None = None
        self._writing: Writing | None = None
        self._began, self._led = 0.0, False
        self._again = Again()
        self._was_ready = self._heard_own_hello = self._goes_on = self._tidy = False
        self._lingers = False
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
        machine_at: MachineAt | None = None,
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
            wall_ns=self._wall_ns,
            incarnation=incarnation,
            disk=self._disk,
            counters=self._counters,
            background=self._background,
            campaign_at_once=campaign,
            machine_at=machine_at,
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
        begun = self.core.engine.sealed is None and self.core.commit_index > self._base_index
        return begun and not self.is_learner

    @property
    def heard_own_hello(self) -> bool:
        """As of `RaftCore`."""
        return self._heard_own_hello or self.core.heard_own_hello

    @property
    def wants_tick(self) -> bool:
        """As of `RaftCore`; and a new generation begins with a tick, as an old one ends with one."""
        return self._goes_on or (self.core.engine.sealed is None and self.core.wants_tick)

    def rest(self) -> float:
        """As of `RaftCore`."""
        busy = self._change is not None or self._passage.busy
        rest = self.core.rest()
        if self._writing is not None:
            return min(rest, LOOK_SECONDS)
        return min(rest, self._given.heartbeat_interval / 2) if busy else rest

    def propose(self, command: bytes, done: Done) -> None:
        """As `RaftCore.propose`, through a change of generation."""
        size = len(command)
        again = partial(self.propose, command, done)
        if not (self._ended and self._again.keep(again, size)):
            self.core.propose(command, self._again_unless_told(done, again, size))

    def read(self, done: Done) -> None:
        """As `RaftCore.read`, through a change of generation."""
        again = partial(self.read, done)
        if not (self._ended and self._again.keep(again, 0)):
            self.core.read(self._again_unless_told(done, again, 0))

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
        self._again.make()  # to be refused

    def close(self) -> None:
        """Give the files back."""
        self._give_up_writing()
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
            raise ChangeRefused(UNDER_WAY)
        newcomer = add if add not in self.generation.members else None
        now = self._clock()
        self._change = Change(self, successor, newcomer, now=now, timeout=timeout, done=done)

    def check_change(self, add: str | None, remove: str | None) -> Generation | None:
        """What would come after this generation; None when the members are so already. Raises `NotLeader`,
        `ChangeRefused`.
        """
        if not self.core.is_leader:
            raise NotLeader(self.core.leader_id)
        if self.core.engine.sealed is not None:
            raise ChangeRefused(UNDER_WAY)
        now = self.generation
        successor = now.succeeded_by(add=add, remove=remove)
        why_not = refusal(now, successor, add)
        if why_not is not None:
            raise ChangeRefused(why_not)
        return None if successor.members == now.members else successor

    # -- the step ----------------------------------------------

    def tick(self) -> None:
        """As `RaftCore.tick`; then what is under way between generations goes on."""
        self._goes_on = False
        self.core.tick()
        if self.core.failure is not None or (self._change is None and not self._passage.busy):
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
        fetched = self._passage.fetched
        if self.core.failure is None and not (sealed is None and fetched is None and self._tidy):
            with self._guarded:
                if sealed is not None:
                    frames += self._succeed(sealed)
                elif fetched is not None:
                    frames += self._adopt(*fetched)
                elif not self._tidy and self.core.commit_index > self._base_index:
                    self._tidy = True
                    self._shelf.remove_older(self.generation.number)
        if self.core.failure is not None and self._change is not None:
            self._change.give_up(self.core.failure)
            self._change = None
        if self._left or self._passage.speaks:
            outgoing = self._left + self._passage.take()
            self._left = []
            self._counters.frames_sent += len(outgoing)
            frames += outgoing
        return frames

    # -- into the next generation ------------------------------

    @property
    def _ended(self) -> bool:
        """Whether this generation has ended, and the next one, in which there is a place, has not begun."""
        return self.core.failure is None and self.core.engine.sealed is not None and not self._lingers

    def _succeed(self, sealed: Sealed) -> list[Outgoing]:
        """Have the base written, and go on from it once it is."""
        successor = sealed.successor
        if self._given.node_id not in successor.members:
            if not self._lingers:
                self._lingers = self._goes_on = True
                self.core.seal(self._removed_in(successor))
            return []
        if self._writing is None:
            self._writing = self._begin_base(sealed)
            self._began, self._led = self._clock(), self.core.is_leader
        writing = self._writing
        if not writing.done:
            return []
        self._writing = None
        writing.finish(incarnation=self.core.letters.incarnation)
        files = self._shelf.finish(successor, learner=False)
        return self._switch(files, campaign=self._led, machine_at=MachineAt(writing.last, writing.previous))

    def _begin_base(self, sealed: Sealed) -> Writing:
        previous, last = self.core.journal.typed(sealed.index - 1, 2, 2**62)
        assert last.index == sealed.index
        directory = self._shelf.begin(sealed.successor)
        base, parts = self._base(sealed.successor), self._machine.snapshot()
        writing = Writing(base, directory, self._background, previous, last, parts)
        if not writing.done:
            self.core.seal(SEALED)
            self._goes_on = True
        return writing

    def _give_up_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.give_up()

    def _adopt(self, generation: Generation, file: SnapshotWriter) -> list[Outgoing]:
        self._passage.fetched = None
        incarnation = self.core.letters.incarnation

        def fill(directory: Path) -> None:
            self._base(generation).adopt(directory, file, incarnation=incarnation)

        stays = self._given.node_id in generation.members
        return self._switch(self._shelf.create(generation, learner=False, fill=fill if stays else None))

    def _base(self, generation: Generation) -> Base:
        given, number, members = self._given, generation.number, generation.members
        return Base(
            self._disk, cluster=given.cluster_id, node=given.node_id, generation=number, members=members
        )

    def _switch(
        self, files: Files, *, campaign: bool = False, machine_at: MachineAt | None = None
    ) -> list[Outgoing]:
        """End the present generation, and go on in the one of `files` if it has a place here."""
        self._give_up_writing()
        generation, learner = files.generation, files.learner
        old, self._was_ready = self.core, self.ready and not self.is_learner
        self._heard_own_hello = self.heard_own_hello
        if not learner and self._given.node_id not in generation.members:
            self.generation = generation
            frames = old.end(self._removed_in(generation))
            log.warning("%s", self._removed_in(generation))
            old.close()
            self._again.make()  # to be refused
            return frames
        frames = old.end(SEALED)
        old.close()
        self.generation, self.is_learner = generation, learner
        self._goes_on, early = True, self._passage.over()
        if learner:
            self._machine.restore(self._pristine)
        self.core = self._open(
            files, incarnation=old.letters.incarnation, campaign=campaign, machine_at=machine_at
        )
        self.core.letters.continue_from(old.letters.last_seq)
        log.info("generation %d: %s", generation.number, ", ".join(generation.members))
        if self._connected is not None:
            self.connection_changed(self._connected[0], patient=False)
        taken = self._clock() - self._began if machine_at is not None else 0.0
        self.core.await_leader(PATIENCE * taken)
        for data, reply_to in early:
            self.receive(data, reply_to)
        self._again.make()
        return frames

    def _removed_in(self, generation: Generation) -> str:
        return f"this node was removed from the cluster in generation {generation.number}"

    def _again_unless_told(self, done: Done, again: Callable[[], None], size: int) -> Done:
        core = self.core

        def heard(outcome: Outcome) -> None:
            """Here, or at the leader, the seal is applied; this node comes after."""
            ended = isinstance(outcome, Unavailable) and outcome.cause == SEALED and core is self.core
            if not (ended and self._again.keep(again, size)):
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

        self._left += self._switch(self._shelf.create(generation, learner=True, fill=fill))

    def removed_by(self, generation: Generation) -> None:
        """A newer generation is told of, without this node."""
        self._left += self._switch(self._shelf.create(generation, learner=False))

    def newcomer_answered(self, name: str, refusal: str) -> None:
        """An invitation was answered."""
        if self._change is not None:
            self._change.answered(name, refusal)
