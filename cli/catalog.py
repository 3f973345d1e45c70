"""Every command of `varpulis`, in one table; the parser, `--help` and `docs/cli.md` come from it.

What a command does stands in the function that `run` names, imported only when it is called: so `varpulis
version` loads no HTTP client, and a worker no terminal tables.
"""

from dataclasses import dataclass
from typing import Any, Final

from cli.settings import CLIENT_KEYS, NATS_KEYS


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument; `many`: any number of them; `optional`: none or one."""

    name: str
    help: str
    many: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """A flag of one command that is no setting. `kind`: the type of its value; `bool`: it has none."""

    flag: str
    help: str
    kind: type = str
    default: Any = None

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run`: `module:function`; `shows`: it takes `-o`; `example`: a line to learn from."""

    name: str
    summary: str
    run: str
    settings: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    shows: bool = True
    hidden: bool = False
    example: str = ""


_UP_KEYS: Final = (
    "up.data_dir",
    "up.coordinators",
    "up.workers",
    "up.http_port",
    "up.nats_port",
    "up.nats_server",
    "up.demo",
    "up.ready_timeout",
)
_NODE_KEYS: Final = (*NATS_KEYS, "cluster.prefix")
_COORDINATOR_KEYS: Final = (
    "coordinator.id",
    "coordinator.members",
    "coordinator.join",
    "coordinator.data_dir",
    "coordinator.http_host",
    "coordinator.http_port",
    "coordinator.insecure",
    "coordinator.worker_ca",
    "coordinator.heartbeat_interval",
    "coordinator.heartbeat_timeout",
    "cluster.id",
)
_WORKER_KEYS: Final = (
    "worker.id",
    "worker.data_dir",
    "worker.http_host",
    "worker.http_port",
    "worker.max_pipelines",
    "worker.labels",
    "worker.api_key",
    "worker.coordinators",
    "worker.address",
    "worker.worker_key_file",
    "worker.tls_cert",
    "worker.tls_key",
    "worker.tls_ca",
    "worker.insecure",
)
_MEMBER_KEYS: Final = ("coordinator.id", "coordinator.members", "coordinator.data_dir")
_YES: Final = Option("--yes", "do not ask", bool, False)
_WAIT: Final = Option("--wait", "seconds to wait until it is done", float, 30.0)
_COPY: Final = Argument("file", "a copy that `raft snapshot save` wrote")
_GROUP: Final = Argument("group", "name of the group")
_FILE: Final = Argument("file", "a group (.json) or a single program (.vpl)")

COMMANDS: Final = (
    Command(
        "up",
        "start a cluster on this machine, or complete one that lost processes",
        "cli.commands.local:up",
        _UP_KEYS,
        options=(Option("--detach", "return once all is ready; `varpulis down` stops it", bool, False),),
        example="varpulis up --detach",
    ),
    Command("down", "stop the cluster of a data directory", "cli.commands.local:down", ("up.data_dir",)),
    Command(
        "status",
        "the cluster in a few lines: leader, workers, groups",
        "cli.commands.cluster:status",
        CLIENT_KEYS,
    ),
    Command("workers", "the workers and what runs on them", "cli.commands.cluster:workers", CLIENT_KEYS),
    Command(
        "groups",
        "the pipeline groups and where their pipelines run",
        "cli.commands.cluster:groups",
        CLIENT_KEYS,
    ),
    Command(
        "deploy",
        "deploy a pipeline group and wait until it runs",
        "cli.commands.groups:deploy",
        CLIENT_KEYS,
        (_FILE,),
        (
            Option("--name", "name of the group; default: the one in the file, or the file's own"),
            Option("--wait", "seconds to wait until every pipeline runs; 0: do not wait", float, 10.0),
        ),
        example="varpulis deploy deploy/examples/doors.vpl",
    ),
    Command(
        "undeploy",
        "remove a pipeline group",
        "cli.commands.groups:undeploy",
        CLIENT_KEYS,
        (_GROUP,),
        (Option("--wait", "seconds to wait until the workers have let go", float, 10.0),),
    ),
    Command(
        "inject",
        "send one event into a group and show what comes out",
        "cli.commands.groups:inject",
        CLIENT_KEYS,
        (
            _GROUP,
            Argument("type", "event type"),
            Argument("fields", "name=value: a number, true, false, null, JSON, else text", many=True),
        ),
        example="varpulis inject doors Door badge=b-17 site=hq held_ms=45000",
    ),
    Command(
        "raft status",
        "the coordinators as the Raft group sees them",
        "cli.commands.cluster:raft_status",
        CLIENT_KEYS,
    ),
    Command(
        "raft transfer",
        "give leadership to another coordinator; no request fails because of it",
        "cli.commands.raft:transfer",
        CLIENT_KEYS,
        (Argument("id", "who is to lead; default: the one that is best prepared", optional=True),),
        (_WAIT,),
        example="varpulis raft transfer coordinator-1",
    ),
    Command(
        "raft add",
        "make a coordinator that was started with --join a member",
        "cli.commands.raft:add",
        CLIENT_KEYS,
        (Argument("id", "id of the new coordinator, never used before"),),
        (Option("--replaces", "a member that leaves in the same step"), _WAIT),
        example="varpulis raft add c4 --replaces c3",
    ),
    Command(
        "raft remove",
        "remove a coordinator from the group for good",
        "cli.commands.raft:remove",
        CLIENT_KEYS,
        (Argument("id", "id of the member"),),
        (_YES, _WAIT),
    ),
    Command(
        "raft snapshot save",
        "write a copy of the replicated state, as it is now, to a file",
        "cli.commands.snapshot:save",
        CLIENT_KEYS,
        (Argument("file", "where to"),),
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
        ("client.url", "client.timeout", *_MEMBER_KEYS, "cluster.id"),
        (_COPY,),
        (
            Option("--into", "id of the running cluster whose whole state is replaced"),
            Option("--from-cluster", "with --into: id of the copy's cluster, if that is another one"),
            _YES,
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
        arguments=(Argument("directory", "data directory of a coordinator"),),
        example="varpulis raft verify .varpulis/coordinator-0",
    ),
    Command(
        "check",
        "find the mistakes in a VPL program; exit code 1 when there are any",
        "cli.commands.programs:check",
        arguments=(_FILE,),
        example="varpulis check deploy/examples/doors.vpl",
    ),
    Command(
        "coordinator",
        "run one coordinator in the foreground",
        "cli.commands.nodes:coordinator",
        (*_COORDINATOR_KEYS, *_NODE_KEYS),
        shows=False,
    ),
    Command(
        "worker",
        "run one worker in the foreground",
        "cli.commands.nodes:worker",
        (*_WORKER_KEYS, *_NODE_KEYS),
        shows=False,
    ),
    Command(
        "config show", "every setting, its value and where that came from", "cli.commands.about:config_show"
    ),
    Command(
        "schema", "the AsyncAPI document of all NATS messages (always JSON)", "cli.commands.about:schema"
    ),
    Command("version", "versions of varpulis and of what it stands on", "cli.commands.about:version"),
    Command(
        "demo-generator",
        "publish the demo's numbered trades",
        "cli.commands.nodes:demo_generator",
        NATS_KEYS,
        options=(
            Option("--rate", "trades a second", float, 200.0),
            Option("--count", "how many; 0: until stopped", int, 0),
        ),
        shows=False,
        hidden=True,
    ),
)
