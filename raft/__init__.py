"""A replicated, durable, totally ordered log of opaque commands, feeding a state machine, over a message bus.

`RaftNode` is the door; `raft.core` is the same node without a network. Each module opens with its rules.
"""

import importlib
import socket

_inet_ntop = socket.inet_ntop
importlib.import_module("pysyncobj")  # on every system it puts one for Windows in the place of this function
socket.inet_ntop = _inet_ntop


from raft.bus import Bus, Message, Subscription
from raft.config import RaftConfig
from raft.engine import StateMachine
from raft.errors import (
    ApplyFailed,
    CommandTooLarge,
    ConfigInvalid,
    DirectoryInUse,
    JournalCorrupt,
    MembersChanged,
    NodeIdInUse,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    SnapshotCorrupt,
    Unavailable,
    WrongCluster,
)
from raft.node import RaftNode
from raft.outcomes import Committed
from raft.status import PeerStatus, RaftStatus

__all__ = [
    "ApplyFailed",
    "Bus",
    "CommandTooLarge",
    "Committed",
    "ConfigInvalid",
    "DirectoryInUse",
    "JournalCorrupt",
    "MembersChanged",
    "Message",
    "NodeIdInUse",
    "NotLeader",
    "OutcomeUnknown",
    "PeerStatus",
    "RaftConfig",
    "RaftError",
    "RaftNode",
    "RaftStatus",
    "SnapshotCorrupt",
    "StateMachine",
    "Subscription",
    "Unavailable",
    "WrongCluster",
]
