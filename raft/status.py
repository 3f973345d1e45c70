"""What a node tells about itself and, while it leads, about its peers."""

from typing import TYPE_CHECKING, Literal

import msgspec

from raft.config import RaftConfig

if TYPE_CHECKING:
    from raft.succession import Succession

Role = Literal["leader", "follower", "candidate", "unknown"]
_ROLES: tuple[Role, ...] = ("follower", "candidate", "leader")


class PeerStatus(msgspec.Struct, frozen=True):
    """One member, as this node sees it. `match_index` and `lag` (entries) are known to the leader only."""

    id: str
    role: Role
    match_index: int | None
    lag: int | None
    last_contact_ms: int | None


class RaftStatus(msgspec.Struct, frozen=True):
    """This node and its view of the cluster. `failure` is set when the node has withdrawn, and says why.
    `nodes` are the members of this `generation`, and the `learners`, as far as this node knows of any.
    """

    enabled: bool
    this_node_id: str
    leader_id: str | None
    term: int
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    ready: bool
    nodes: list[PeerStatus]
    failure: str | None
    generation: int = 0
    learners: list[str] = []


def status_of(config: RaftConfig, core: "Succession | None") -> RaftStatus:
    """The status of a node; `core` is None while it does not run."""
    if core is None:
        nodes = [PeerStatus(member, "unknown", None, None, None) for member in config.members]
        return RaftStatus(False, config.node_id, None, 0, 0, 0, 0, 0, False, nodes, None)
    leader_id = core.leader_id
    members = dict.fromkeys((*core.generation.members, *core.learners))
    return RaftStatus(
        enabled=True,
        this_node_id=config.node_id,
        leader_id=leader_id,
        term=core.term,
        commit_index=core.commit_index,
        applied_index=core.applied_index,
        first_index=core.journal.first_index,
        last_index=core.journal.last_index,
        ready=core.ready,
        nodes=[_member(core, name, leader_id) for name in members],
        failure=core.failure,
        generation=core.generation.number,
        learners=core.learners,
    )


def _member(core: "Succession", member: str, leader_id: str | None) -> PeerStatus:
    last_index = core.journal.last_index
    if member == core.config.node_id:
        role: Role = "unknown" if core.failure is not None else _ROLES[core.state]
        return PeerStatus(member, role, last_index, 0 if core.is_leader else None, 0)
    role = "leader" if member == leader_id else "follower" if leader_id else "unknown"
    contact = core.ms_since_contact(member)
    if not core.is_leader:
        return PeerStatus(member, role, None, None, contact)
    match_index = core.leader.replication.progress[member].match_index
    return PeerStatus(member, role, match_index, last_index - match_index, contact)
