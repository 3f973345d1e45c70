"""What comes in: frames of other nodes, each admitted, then handled, then answered with the next step.

`raft.correspondence` says which frames count, `raft.follower` and `raft.leader` what they may do. Nothing
leaves here: answers wait in the outbox until the journal is synced.
"""

from collections.abc import Callable

from raft import codec
from raft.calls import Calls
from raft.campaign import Campaign
from raft.codec import AnyReply, AnyRequest, CallReply
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.errors import FrameError, Unavailable
from raft.follower import Follower
from raft.guard import Guard
from raft.leader import Leader
from raft.outbox import Outbox
from raft.outcomes import outcome_from
from raft.proposals import Proposals
from raft.reads import Reads
from raft.transport import EngineTransport
from raft.view import CoreView


class Reception:
    """The frames of one core.

    Attributes:
        heard_own_hello: this node's own hello has come back to it.
    """

    def __init__(
        self,
        core: CoreView,
        guarded: Guard,
        transport: EngineTransport,
        letters: Correspondence,
        outbox: Outbox,
        campaign: Campaign,
        follower: Follower,
        leader: Leader,
        calls: Calls,
        proposals: Proposals,
        reads: Reads,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._core, self._guarded, self._transport = core, guarded, transport
        self._letters, self._outbox, self._campaign = letters, outbox, campaign
        self._follower, self._leader = follower, leader
        self._calls, self._proposals, self._reads = calls, proposals, reads
        self._counters, self._clock = counters, clock
        self.heard_own_hello = False

    def request(self, data: bytes, reply_to: str) -> bool:
        """A request frame from the bus; its answer, if any, goes to the subject `reply_to`. Returns whether
        it calls for a step now.
        """
        if self._core.failure is not None:
            return False
        self._counters.frames_received += 1
        try:
            frame = codec.decode_request(data)
        except FrameError as error:
            return self._letters.drop(error.reason, "unknown")
        if isinstance(frame, codec.Hello):
            if frame.incarnation == self._letters.incarnation:
                self.heard_own_hello = True
            else:
                stamp = self._outbox.stamp(frame, self._core.term)
                self._outbox.answer(reply_to, codec.HelloReply(*stamp))
            return True
        if not self._letters.admits_request(frame):
            return False
        self._core.last_contact[frame.sender] = self._clock()
        with self._guarded:
            self._handle(frame, reply_to)
        mere_heartbeat = isinstance(frame, codec.Append) and not frame.entries and not reply_to
        return not (mere_heartbeat and self._core.at_rest)

    def _handle(self, frame: AnyRequest, reply_to: str) -> None:
        answer: AnyReply | None = None
        match frame:
            case codec.Append():
                agreed = self._follower.append(frame)
                if agreed is not None:
                    self._campaign.heard_leader(frame.term)
                    if self._core.ready_at is None and frame.term == self._core.term:
                        self._core.ready_at = frame.commit_index
                    answer = codec.AppendReply(*self._outbox.stamp(frame, self._core.term), *agreed)
            case codec.SnapshotChunk():
                progress = self._follower.chunk(frame)
                if progress is not None:
                    self._campaign.heard_leader(frame.term)
                    answer = codec.SnapshotReply(*self._outbox.stamp(frame, self._core.term), *progress)
            case codec.PreVote():
                granted = self._campaign.hears_none() and self._follower.would_vote(frame)
                answer = codec.PreVoteReply(*self._outbox.stamp(frame, self._core.term), granted)
            case codec.Vote():
                granted = self._follower.vote(frame)
                answer = codec.VoteReply(*self._outbox.stamp(frame, self._core.term), granted)
            case codec.TimeoutNow():
                self._campaign.told(frame)
            case codec.Propose() | codec.Read():
                self._calls.handed_over(frame, reply_to)
        if answer is not None:
            self._outbox.answer(reply_to, answer)

    def reply(self, data: bytes) -> bool:
        """A reply frame from the bus. Returns whether it calls for a step now."""
        if self._core.failure is not None:
            return False
        self._counters.frames_received += 1
        try:
            frame = codec.decode_reply(data)
        except FrameError as error:
            return self._letters.drop(error.reason, "unknown")
        asked = self._letters.match_reply(frame)
        if asked is None:
            return False
        now = self._core.last_contact[frame.sender] = self._clock()
        term = self._core.term
        with self._guarded:
            if isinstance(frame, CallReply):
                outcome = outcome_from(
                    frame.outcome, frame.detail, frame.index, frame.entry_term, frame.result
                )
                self._proposals.answered(frame.answers_seq, outcome)
            elif frame.term > term:
                self._transport.observe_term(frame.sender, frame.term)
            elif isinstance(frame, codec.PreVoteReply):
                if frame.granted and asked.term == term:
                    self._campaign.prevote.granted(frame.sender, now)
            elif asked.term != term:
                return self._letters.drop("stale_term", frame.sender)
            else:
                self._reads.answered(frame.sender, frame.answers_seq)
                self._leader.reply(asked, frame, now)
                return not self._core.is_leader or self._calls.busy or self._makes_progress(frame.sender)
        return True

    def _makes_progress(self, peer: str) -> bool:
        """Whether there is more to commit or to send now that `peer` has answered."""
        progress = self._leader.replication.progress[peer]
        behind = progress.next_index <= self._core.journal.last_index or progress.transfer is not None
        return behind or progress.match_index > self._core.commit_index

    def nobody_there(self, seq: int) -> None:
        """The bus says that nobody heard the request with this sequence number."""
        self._counters.no_responders += 1
        asked = self._letters.forget(seq)
        if asked is not None and asked.about is not None:
            self._leader.replication.unheard(asked.peer)
        if asked is not None and asked.peer == self._core.leader_id:
            self._campaign.prevote.leader_gone(self._clock())
        self._proposals.answered(seq, Unavailable("the leader has left the bus"))
