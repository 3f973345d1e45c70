"""`/topology`, `/summary`, `/raft`, `/raft/leader`, `/validate`: the cluster as a whole."""

from litestar import get, post

from coordinator.api.context import AnyRequest, Context, Given, read_body
from coordinator.api.programs import diagnose
from coordinator.state.views import summary_view, topology_view
from proto_schemas.rest.cluster import ScalingView, SummaryView, TopologyView
from proto_schemas.rest.groups import ValidateRequest, ValidateResponse
from proto_schemas.rest.raft import RaftPeer, RaftView


@get("/topology")
async def topology(context: Given) -> TopologyView:
    """What runs where, and how events flow."""
    return topology_view(context.ledger.state, context.observed_all(), context.subjects)


@get("/summary")
async def summary(context: Given) -> SummaryView:
    """The cluster in a few numbers."""
    return summary_view(
        context.ledger.state,
        context.observed_all(),
        cluster_id=context.config.cluster_id,
        leader_id=context.ledger.leader_id,
        term=context.ledger.term,
    )


@get("/scaling")
async def scaling(context: Given) -> ScalingView:
    """Whether more or fewer workers are wanted, and why; by the leader, who has looked for a while."""
    return context.scaling.view()


@get("/raft", opt={"anywhere": True})
async def raft(context: Given) -> RaftView:
    """Raft as this node sees it: answered here, with or without a leader."""
    return _raft_view(context)


@get("/raft/leader")
async def raft_of_leader(context: Given) -> RaftView:
    """Raft as the leader sees it, who alone hears all the others."""
    return _raft_view(context)


def _raft_view(context: Context) -> RaftView:
    status = context.raft.status()
    urls = context.ledger.state.coordinators
    return RaftView(
        enabled=status.enabled,
        this_node_id=status.this_node_id,
        leader_id=status.leader_id,
        generation=status.generation,
        learners=status.learners,
        term=status.term,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        failure=status.failure,
        nodes=[
            RaftPeer(
                id=node.id,
                role=node.role,
                match_index=node.match_index,
                lag=node.lag,
                last_contact_ms=node.last_contact_ms,
                url=urls.get(node.id),
            )
            for node in status.nodes
        ],
    )


@post("/validate", status_code=200, opt={"body": ValidateRequest, "anywhere": True, "keyed": False})
async def validate(request: AnyRequest, context: Given) -> ValidateResponse:
    """Every finding in a program; nothing is deployed."""
    body = await read_body(request, ValidateRequest)
    findings = await diagnose(body.source, context.ledger.state.connectors)
    valid = not any(finding.severity == "error" for finding in findings)
    return ValidateResponse(valid=valid, diagnostics=findings)


HANDLERS = [topology, summary, scaling, raft, raft_of_leader, validate]
