"""A replicated, durable, totally ordered log of opaque commands, feeding a state machine, over a message bus.

`RaftNode` is the door; `raft.core` is the same node without a network. Each module opens with its rules.
"""

import _socket
import socket

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

socket.inet_ntop = _socket.inet_ntop  # PySyncObj puts one for Windows in its place, on every system

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
