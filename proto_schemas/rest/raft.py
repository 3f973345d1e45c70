"""The coordinators themselves: who leads, who is a member, the state that is restored."""

from proto_schemas.messages.base import Message
from proto_schemas.rest.base import View
from proto_schemas.subjects import Id


class RaftPeer(View, frozen=True, kw_only=True):
    """One coordinator as this node sees it."""

    id: str
    role: str
    match_index: int | None
    lag: int | None
    last_contact_ms: int | None
    url: str | None


class RaftView(View, frozen=True, kw_only=True):
    """`GET /raft`. `generation`: of the members, counted from 1; `learners`: coordinators that are being
    added and catch up (the leader knows); `failure`: why this node has withdrawn, null while it takes part.
    """

    enabled: bool
    this_node_id: str
    leader_id: str | None
    generation: int
    learners: list[str]
    term: int
    commit_index: int
    applied_index: int
    failure: str | None
    nodes: list[RaftPeer]


class TransferRequest(Message, frozen=True, kw_only=True):
    """`POST /raft/transfer`. `to`: who is to lead; null: whichever member is best prepared."""

    to: Id | None = None


class TransferResult(View, frozen=True, kw_only=True):
    """Who leads now."""

    leader_id: str


class MemberRequest(Message, frozen=True, kw_only=True):
    """`POST /raft/members`. `replaces`: a member that leaves in the same step."""

    id: Id
    replaces: Id | None = None


class GenerationView(View, frozen=True, kw_only=True):
    """The members of the Raft group. `number` grows with each change; `retired`: ids that never come back."""

    number: int
    members: list[str]
    retired: list[str]


class RestoreResult(View, frozen=True, kw_only=True):
    """Answer to `POST /snapshot`: the copy that is the state now; `kept` of its pipelines went on where they
    ran."""

    cluster_id: str
    last_index: int
    taken_at_ms: int
    groups: int
    pipelines: int
    kept: int
