"""The Raft group of the coordinators."""

from typing import Final

from cli.catalog.kinds import YES, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_MEMBER_KEYS: Final = ("coordinator.id", "coordinator.members", "coordinator.data_dir")
_WAIT: Final = Option("--wait", "seconds to wait until it is done", float, 30.0)
_COPY: Final = Argument("file", "a copy that `raft snapshot save` wrote", words="files")

COMMANDS: Final = (
    Command(
        "raft status",
        "the coordinators as the Raft group sees them",
        "cli.commands.cluster:raft_status",
        CLIENT_KEYS,
        watch=True,
    ),
    Command(
        "raft transfer",
        "give leadership to another coordinator; no request fails because of it",
        "cli.commands.raft:transfer",
        CLIENT_KEYS,
        (
            Argument(
                "id",
                "who is to lead; default: the one that is best prepared",
                optional=True,
                words="coordinators",
            ),
        ),
        (
            Option(
                "--from",
                "only if this coordinator leads (`.`: that of VARPULIS_COORDINATOR_ID), else do nothing",
            ),
            _WAIT,
        ),
        example="varpulis raft transfer coordinator-1",
    ),
    Command(
        "raft add",
        "make a coordinator that was started with --join a member",
        "cli.commands.raft:add",
        CLIENT_KEYS,
        (Argument("id", "id of the new coordinator, never used before"),),
        (Option("--replaces", "a member that leaves in the same step", words="coordinators"), _WAIT),
        example="varpulis raft add c4 --replaces c3",
    ),
    Command(
        "raft remove",
        "remove a coordinator from the group for good",
        "cli.commands.raft:remove",
        CLIENT_KEYS,
        (Argument("id", "id of the member", words="coordinators"),),
        (YES, _WAIT),
    ),
    Command(
        "raft snapshot save",
        "write a copy of the replicated state, as it is now, to a file",
        "cli.commands.snapshot:save",
        CLIENT_KEYS,
        (Argument("file", "where to", words="files"),),
        (Option("--force", "take the place of a file that is there", bool, False), _WAIT),
        example="varpulis raft snapshot save monday.backup",
    ),
    Command(
        "raft snapshot inspect",
        "what a copy holds; exit code 1 when it is damaged",
        "cli.commands.snapshot:inspect",
        arguments=(_COPY,),
    ),
    Command(
        "raft snapshot restore",
        "replace the state of a running cluster by a copy (--into), or make the data directory of one member "
        "of a new group from it (--id, --members, --data-dir)",
        "cli.commands.snapshot:restore",
        ("client.url", "client.context", "client.timeout", *_MEMBER_KEYS, "cluster.id"),
        (_COPY,),
        (
            Option("--into", "id of the running cluster whose whole state is replaced"),
            Option("--from-cluster", "with --into: id of the copy's cluster, if that is another one"),
            YES,
            _WAIT,
        ),
        example="varpulis raft snapshot restore monday.backup --into production",
    ),
    Command(
        "raft recover",
        "make a new group from one survivor after the loss of a majority; can lose acknowledged writes",
        "cli.commands.files:recover",
        _MEMBER_KEYS,
        options=(Option("--i-accept-lost-writes", "without these words nothing is done", bool, False),),
        example="varpulis raft recover --id c1 --members c1 --data-dir c1 --i-accept-lost-writes",
    ),
    Command(
        "raft verify",
        "check journal and snapshots of a coordinator, running or not; exit code 1 when one is damaged",
        "cli.commands.files:verify",
        arguments=(Argument("directory", "data directory of a coordinator", words="files"),),
        example="varpulis raft verify .varpulis/coordinator-0",
    ),
)
