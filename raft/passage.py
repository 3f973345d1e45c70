"""What nodes of different generations, or roles, say to each other, and what follows from it.

- A frame of an **older** generation from a node that was once a member is answered `NewerGeneration`.
- A frame of a **newer** one from a known node, or that answer, says that a change was missed. The seal may be
  about to be applied, so for one heartbeat the frames of the newer generation are only kept; then a base is
  pulled (`raft.fetch`). A stranger is asked first which generation that is, for all that this node knew may
  have been replaced meanwhile; it is believed when its generation knows all former members, as members or as
  removed. A node that has nothing may be a member that lost its disk, and has forgotten its votes: it does
  not come after, it withdraws, or waits to be invited.
- `Invite` makes a node that is no member a learner of the inviting generation. No leader invites a member.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from raft.between import (
    BetweenReply,
    BetweenRequest,
    Fetch,
    Invite,
    InviteReply,
    NewerGeneration,
    decode_reply,
    decode_request,
)
from raft.codec import Frame, Reply, encode
from raft.config import RaftConfig
from raft.core import RaftCore
from raft.errors import FrameError
from raft.fetch import Fetching, serve
from raft.generation import Generation
from raft.outbox import Outgoing
from raft.snapshot import SnapshotWriter

MOST_EARLY = 64
"""Frames of a newer generation that are kept; the oldest is dropped. All count as dropped until then."""
MOST_ASKED = 64

Early = deque[tuple[bytes, str]]


class Host(Protocol):
    """What is needed of `raft.succession`."""

    core: RaftCore
    generation: Generation
    is_learner: bool

    def invited_to(self, generation: Generation) -> None: ...
    def removed_by(self, generation: Generation) -> None: ...
    def newcomer_answered(self, name: str, refusal: str) -> None: ...


class Passage:
    """The frames between generations of one node. `begin` opens a file for a base. Times in seconds."""

    def __init__(
        self,
        host: Host,
        config: RaftConfig,
        clock: Callable[[], float],
        begin: Callable[[], SnapshotWriter],
    ) -> None:
        self._host, self._config, self._clock, self._begin = host, config, clock, begin
        self._outgoing: list[Outgoing] = []
        self._asked: dict[int, str] = {}
        self._early: Early = deque(maxlen=MOST_EARLY)
        self._missed: tuple[int, tuple[str, ...], float] | None = None
        self._fetching: Fetching | None = None
        self._questioned_at, self._question_seq = float("-inf"), 0
        self.fetched: tuple[Generation, SnapshotWriter] | None = None
        """A newer generation and its base, once it is here."""

    @property
    def busy(self) -> bool:
        """Whether a change was missed, and is being made up for."""
        return self._missed is not None

    @property
    def speaks(self) -> bool:
        """Whether frames wait to be taken."""
        return bool(self._outgoing)

    def take(self) -> list[Outgoing]:
        """The frames that leave with this step."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def nobody_there(self, seq: int) -> bool:
        """Nobody heard the request with this number; whether it was one of these."""
        return self._asked.pop(seq, None) is not None

    def over(self) -> Early:
        """This generation is over; the frames that came early for the next one."""
        self.close()
        if self.fetched is not None:
            self.fetched[1].discard()
            self.fetched = None
        self._missed, self._early, early = None, deque(maxlen=MOST_EARLY), self._early
        self._asked.clear()
        return early

    def close(self) -> None:
        """Give back what has been fetched in part."""
        if self._fetching is not None:
            self._fetching.discard()
            self._fetching = None

    # -- frames of a core, of another generation ---------------

    def foreign(self, frame: Frame, data: bytes, reply_to: str) -> None:
        """`frame` is of another generation; a request has a `reply_to` if it wants an answer."""
        if frame.generation > self._host.generation.number:
            if not isinstance(frame, Reply):
                self._early.append((data, reply_to))
            if frame.sender in self._host.core.config.peers:
                self._miss(frame.generation, frame.sender, ())
            else:
                self._question(frame.sender)
        elif reply_to and not self._host.is_learner and self._was_member(frame.sender):
            stamp = self._host.core.letters.stamp(self._host.core.term)
            newer = NewerGeneration(*stamp, frame.incarnation, frame.seq, self._host.generation)
            self._outgoing.append(Outgoing(reply_to, encode(newer)))

    def _was_member(self, name: str) -> bool:
        return name in self._host.generation.members or name in self._host.generation.retired

    def _question(self, stranger: str) -> None:
        """Ask somebody unknown, who speaks of a newer generation, which one that is."""
        now, core = self._clock(), self._host.core
        waits = now < self._questioned_at + self._config.heartbeat_interval
        if self._host.generation.number and not waits:
            question = Fetch(*core.letters.stamp(core.term), 0, 0)
            self._questioned_at, self._question_seq = now, question.seq
            self.ask(stranger, "fetch", question)

    def _miss(self, number: int, sender: str, others: tuple[str, ...]) -> None:
        now, known = self._host.generation, self._host.core.config.peers
        if not 0 < now.number < number:
            return
        if self._has_nothing():
            self._host.core.withdraw(
                f"this node is a member of a cluster in generation {number}, and its directory was empty: "
                "what it voted and acknowledged is lost. Replace it under a new id (docs/members.md)"
            )
            return
        last, former, since = self._missed or (0, (), self._clock())
        sources = dict.fromkeys((sender, *others, *known))
        sources.pop(self._config.node_id, None)
        if number > last or not sources.keys() <= set(former):
            self._missed = max(number, last), tuple(sources), since
            if self._fetching is not None:
                self._fetching.turn_to(tuple(sources))

    def _has_nothing(self) -> bool:
        """Whether this node may have lost its disk: it knows of no term and no entry."""
        core = self._host.core
        return core.term == 0 and core.applied_index <= 1 and core.journal.last_index <= 1

    # -- frames between generations ----------------------------

    def request(self, data: bytes, reply_to: str) -> bool:
        """A request frame; whether it counted."""
        host = self._host
        try:
            frame = decode_request(data)
        except FrameError as error:
            return host.core.letters.drop(error.reason, "unknown")
        if frame.cluster != self._config.cluster_id:
            return host.core.letters.drop("other_cluster", frame.sender)
        answers = frame.incarnation, frame.seq
        reply: BetweenReply | None = None
        match frame:
            case Invite():
                refused = self._invited(frame)
                reply = InviteReply(*host.core.letters.stamp(host.core.term), *answers, refused)
            case Fetch() if not host.is_learner and self._was_member(frame.sender):
                stamp = (*host.core.letters.stamp(host.core.term), *answers)
                reply = serve(host.core, host.generation, frame, stamp)
        if reply is not None and reply_to:
            self._outgoing.append(Outgoing(reply_to, encode(reply)))
        return True

    def _invited(self, frame: Invite) -> str:
        """Follow the inviting generation; else the reason why not."""
        offered, me, now = frame.generation_now, self._config.node_id, self._host.generation
        if not self._host.is_learner:
            return f"{me} is a member already, of generation {now.number}"
        if frame.sender not in self._host.core.config.peers and frame.sender not in self._config.members:
            return f"{me} was not told to listen to {frame.sender}. Name it in --members"
        if me in offered.retired or me in offered.members:
            return f"{me} was a member before. Choose an id never used, and an empty directory"
        if offered.number < now.number:
            return f"{me} follows generation {now.number} already"
        if offered.number > now.number:
            self._host.invited_to(offered)
        return ""

    def reply(self, data: bytes) -> bool:
        """A reply frame; whether it counted."""
        host = self._host
        try:
            frame = decode_reply(data)
        except FrameError as error:
            return host.core.letters.drop(error.reason, "unknown")
        if frame.cluster != self._config.cluster_id:
            return host.core.letters.drop("other_cluster", frame.sender)
        if frame.answers_incarnation != host.core.letters.incarnation:
            return host.core.letters.drop("unasked", frame.sender)
        if isinstance(frame, NewerGeneration):
            self._told(frame.generation_now, frame.sender)
        elif self._asked.pop(frame.answers_seq, None) != frame.sender:
            return host.core.letters.drop("unasked", frame.sender)
        elif isinstance(frame, InviteReply):
            host.newcomer_answered(frame.sender, frame.refusal)
        elif frame.answers_seq == self._question_seq:
            self._told(frame.generation_now, frame.sender)
        elif self._fetching is not None and frame.generation_now.number > host.generation.number:
            file = self._fetching.take(frame)
            if file is not None:
                self._fetching, self.fetched = None, (frame.generation_now, file)
            else:
                self.come_after(self._clock())
        return True

    def _told(self, newer: Generation, sender: str) -> None:
        now = self._host.generation
        if not (sender in self._host.core.config.peers or newer.comes_after(now)):
            return
        if newer.number > now.number and self._config.node_id in newer.retired:
            self._host.removed_by(newer)
        else:
            self._miss(newer.number, sender, newer.members)

    def come_after(self, now: float) -> None:
        """Ask for the next piece of a base, if a change was missed and it is time."""
        config = self._config
        if self._missed is None or self.fetched or now < self._missed[2] + config.heartbeat_interval:
            return
        if self._fetching is None:
            self._fetching = Fetching(
                self._missed[1],
                self._begin,
                patience=2 * config.heartbeat_interval,
                longest=config.election_timeout_max,
                most_bytes=config.max_snapshot_bytes,
            )
        source = self._fetching.due(now)
        if source is not None:
            core = self._host.core
            self.ask(source, "fetch", self._fetching.question(core.letters.stamp(core.term)))

    def ask(self, peer: str, rpc: str, frame: BetweenRequest) -> None:
        """Ask `peer` with this step; beyond `MOST_ASKED` the oldest question counts as unanswered."""
        self._asked[frame.seq] = peer
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        subject = self._config.subject(peer, rpc)
        self._outgoing.append(Outgoing(subject, encode(frame), f"{peer}.{frame.seq}"))
