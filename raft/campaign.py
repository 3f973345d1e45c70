"""The engine's leave to campaign: `raft.prevote`'s evidence, turned into what the engine believes.

PySyncObj campaigns when its election timer has run out and it believes that a peer is connected. A leader
believes so while the bus is up; any other node only while a majority has granted it a pre-vote, or for the
heartbeat after a leader told it to campaign at once.
"""

from collections.abc import Callable

from raft import codec
from raft.ascent import Ascent
from raft.config import RaftConfig
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.engine import Engine
from raft.outbox import Outbox
from raft.prevote import PreVote
from raft.transport import EngineTransport


class Campaign:
    """When one node may try to become the leader."""

    def __init__(
        self,
        config: RaftConfig,
        engine: Engine,
        transport: EngineTransport,
        letters: Correspondence,
        outbox: Outbox,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._engine, self._transport = config, engine, transport
        self._letters, self._outbox, self._clock = letters, outbox, clock
        self._bus_up = False
        self._told_until = float("-inf")
        self.prevote = PreVote(config)
        self.ascent = Ascent(counters)

    def connection_changed(self, connected: bool, *, patient: bool) -> None:
        """The bus came or went; `patient`: it has just come back, so silence on it proves nothing yet."""
        self._bus_up = connected
        self.prevote.connection_changed(connected, self._clock())
        if connected and not patient:
            self.prevote.joined_at_once()
        self._believe(self._clock())

    def heard_leader(self, term: int) -> None:
        """A leader of this term spoke; one of an older term is none."""
        if term >= self._engine.raftCurrentTerm:
            self.prevote.heard_leader(self._clock())
            self.ascent.given_up()

    def leads(self, leading: bool) -> None:
        """This node leads now, or leads no more."""
        now = self._clock()
        if leading:
            self.ascent.elected(now)
        else:
            self.ascent.deposed()
        self.prevote.heard_leader(now)
        self._transport.set_connected(leading and self._bus_up)

    def told(self, frame: codec.TimeoutNow) -> None:
        """The leader hands over to this node: no pre-vote is needed, for it will grant the vote itself."""
        now = self._clock()
        self._told_until = now + self._config.heartbeat_interval
        self.ascent.told(now)
        self._transport.deliver(frame.sender, {"type": "timeout_now", "term": frame.term})

    def hears_none(self) -> bool:
        """Whether this node may support another one: it neither leads nor hears a leader."""
        return not self._engine._isLeader() and self.prevote.silent(self._clock())

    @property
    def leader(self) -> str | None:
        """Who leads, as far as this node can know; the engine would name the last one for ever."""
        leader = self._engine._getLeader()
        if leader is None or (not self._engine._isLeader() and self.prevote.lost(self._clock())):
            return None
        return str(leader.id)

    def tick(self, now: float) -> None:
        """Before the engine's tick: ask the peers, and tell the engine what to believe."""
        if self._engine._isLeader():
            self._believe(now)
            return
        if self.prevote.round_due(now):
            self.ascent.suspects(self.prevote.heard_at, now)
            self._ask()
        self._believe(now)
        leader = self._engine._getLeader()
        if leader is not None and self.prevote.haste(leader.id, now):
            self._transport.deliver(leader.id, {"type": "timeout_now", "term": self._engine.raftCurrentTerm})

    def _believe(self, now: float) -> None:
        may = self._engine._isLeader() or now < self._told_until or self.prevote.may_campaign(now)
        self._transport.set_connected(self._bus_up and may)

    def _ask(self) -> None:
        journal, term = self._engine.journal, self._engine.raftCurrentTerm
        last = journal.last_index
        for peer in self._config.peers:
            frame = codec.PreVote(*self._letters.stamp(term), last, journal.term_at(last))
            self._outbox.call(peer, "prevote", frame)
