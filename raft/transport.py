"""The engine's transport: it collects what the engine says, and lets it say no more than can be kept.

Nothing is sent here. During a step the engine's messages become notes: who is asked for a vote, who is due
for an append, what the request being handled is answered. The core turns the notes into frames once the
journal is synced.

One note per peer and step is enough, for `raft.replication` decides what an append holds. So after the first
append to a peer the engine is told that the peer is gone, and after the step that it is back: else it would
go on through its whole backlog, command by command, and, while a snapshot is being written, spin.

Not carried at all: utility messages, membership, forwarded commands. A forwarded command (leadership was lost
between `submit` and the tick) is answered at once: not the leader.
"""

from typing import Any

from pysyncobj import FAIL_REASON
from pysyncobj.node import Node
from pysyncobj.transport import Transport

EngineMessage = dict[str, Any]


class Member(str, Node):  # type: ignore[misc]
    """The engine's name for a node: equal and hashed as the text it is, without a line of Python; the engine
    looks into its tables of nodes a dozen times for each commit.
    """


class EngineTransport(Transport):  # type: ignore[misc]
    """The notes of one engine about its `peers`."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        super().__init__(None, None, [])
        self.nodes = {peer: Member(peer) for peer in peers}
        """The engine's own objects: it finds an identical one sooner in its tables than an equal one."""
        self._connected = False
        self._answers: list[EngineMessage] = []
        self.votes: list[tuple[str, EngineMessage]] = []
        self.handovers: list[tuple[str, EngineMessage]] = []
        self.due: set[str] = set()

    def send(self, node: Node, message: EngineMessage) -> bool:
        """The engine's messages come in here."""
        match message["type"]:
            case "append_entries":
                self.due.add(node.id)
                self._onNodeDisconnected(node)
            case "next_node_idx" | "response_vote":
                self._answers.append(message)
            case "request_vote":
                self.votes.append((node.id, message))
            case "timeout_now":
                self.handovers.append((node.id, message))
            case "apply_command" if "request_id" in message:
                refusal = {
                    "type": "apply_command_response",
                    "request_id": message["request_id"],
                    "error": FAIL_REASON.NOT_LEADER,
                }
                self._onMessageReceived(node, refusal)
        return True

    def deliver(self, peer: str, message: EngineMessage) -> EngineMessage | None:
        """Hand a message to the engine; returns its answer, if it gave one."""
        self._answers.clear()
        self._onMessageReceived(self.nodes[peer], message)
        return self._answers[-1] if self._answers else None

    def observe_term(self, peer: str, term: int) -> None:
        """Tell the engine of a higher term (Raft 5.1): as a request for a vote that no log could grant."""
        self.deliver(peer, {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1})

    def end_election_timeout(self, term: int) -> None:
        """Before any leader is known: the engine's election timer has run out, as if that leader, nobody,
        had told it to campaign.
        """
        self._onMessageReceived(None, {"type": "timeout_now", "term": term})

    def set_connected(self, connected: bool) -> None:
        """Report all peers reachable or not; the engine campaigns only while it believes one is."""
        if connected == self._connected:
            return
        self._connected = connected
        for node in self.nodes.values():
            if connected:
                self._onNodeConnected(node)
            else:
                self._onNodeDisconnected(node)

    def take_due(self) -> set[str]:
        """The peers due for an append; from now on the engine may speak to them again."""
        due, self.due = self.due, set()
        if self._connected:
            for peer in due:
                self._onNodeConnected(self.nodes[peer])
        return due

    def take_votes(self) -> list[tuple[str, EngineMessage]]:
        """The votes to ask for, in the order of the peers' ids (the engine iterates over a set)."""
        votes, self.votes = sorted(self.votes, key=lambda vote: vote[0]), []
        return votes

    def take_handovers(self) -> list[tuple[str, EngineMessage]]:
        """The peers to be told to campaign at once."""
        handovers, self.handovers = self.handovers, []
        return handovers
