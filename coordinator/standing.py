"""Where this node stands towards its group: it takes part, it waits to be added, or it is out.

A node that is no member answers nothing for the cluster: what it holds may be old for ever. It says why and
what to do, at `/readyz` and to every request, and takes no registrations, which a queue group would otherwise
hand to it in turn.
"""

from coordinator.config import CoordinatorConfig
from raft.status import RaftStatus


def outside(config: CoordinatorConfig, status: RaftStatus) -> str | None:
    """Why this node takes no part in the cluster's work; None when it does.

    `failure` of a node: it was removed, or its disk failed.
    """
    if status.failure is not None:
        return status.failure
    members = {node.id for node in status.nodes} - set(status.learners)
    if config.join and config.node_id not in members:
        return f"{config.node_id} waits to be added: varpulis raft add {config.node_id}"
    return None
