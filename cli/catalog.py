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
    """A flag of one command that is no setting. `kind`: the type of its value; `bool`: it has none;
    `short`: its one letter, such as `-f`."""

    flag: str
    help: str
    kind: type = str
    default: Any = None
    short: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """What may be written for it."""
        return (self.short, self.flag) if self.short else (self.flag,)

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def shown_default(self) -> str:
        return self.default if isinstance(self.default, str) else f"{self.default:g}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run`: `module:function`; `shows`: it takes `-o`, with the choices `outputs`; `example`: a
    line to learn from.
    """

    name: str
    summary: str
    run: str
    settings: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    shows: bool = True
    outputs: tuple[str, ...] = ("table", "json")
    hidden: bool = False
    example: str = ""


_UP_KEYS: Final = (
    "up.data_dir",
    "up.coordinators",
    "up.workers",
    "up.http_port",
    "up.nats_port",
    "up.nats_server",
    "up.require_keys",
    "up.demo",
    "up.ready_timeout",
)
_NODE_KEYS: Final = (
    *NATS_KEYS,
    "cluster.prefix",
    "cluster.key_file",
    "cluster.sign",
    "cluster.allow_unsigned",
)
_COORDINATOR_KEYS: Final = (
    "coordinator.id",
    "coordinator.members",
    "coordinator.join",
    "coordinator.data_dir",
    "coordinator.http_host",
    "coordinator.http_port",
    "coordinator.insecure",
    "coordinator.advertise_url",
    "coordinator.tls_cert",
    "coordinator.tls_key",
    "coordinator.tls_client_ca",
    "coordinator.tls_ca",
    "coordinator.admin_key_file",
    "coordinator.worker_key_file",
    "coordinator.require_keys",
    "coordinator.worker_ca",
    "coordinator.heartbeat_interval",
    "coordinator.heartbeat_timeout",
    "coordinator.placement",
    "coordinator.rebalance",
    "coordinator.rebalance_cooldown",
    "cluster.id",
    "scaling.webhook",
)
_WORKER_KEYS: Final = (
    "worker.id",
    "worker.data_dir",
    "worker.http_host",
    "worker.http_port",
    "worker.max_pipelines",
    "worker.files_dir",
    "worker.labels",
    "worker.leave_timeout",
    "worker.error_budget",
    "worker.error_share",
    "worker.event_secs",
    "worker.max_keys",
    "worker.checkpoint_store",
    "worker.checkpoint_interval",
    "worker.checkpoint_wait",
    "worker.checkpoint_required",
    "worker.checkpoint_replicas",
    "worker.checkpoint_max_bytes",
    "worker.api_key",
    "worker.api_key_file",
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
_CONNECTOR: Final = Argument("name", "name of the connector, as programs write it")
_PARAMS: Final = Argument(
    "params",
    "name=value: a number, JSON, else text; env:NAME and file:PATH are read by the worker",
    many=True,
)
_CONNECTOR_OPTIONS: Final = (
    Option("--params-file", "JSON object of further parameters, for what is secret; - reads standard input"),
    Option("--description", "what it is for"),
)
_FOLLOW: Final = Option(
    "--wait", "seconds to follow it, and then fail unless it is done; 0: do not", float, 0.0
)
_WORKER: Final = Argument("id", "id of the worker")
_KEY: Final = Argument("id", "id of the key, its middle part")
_TO: Final = Option("--to", "write the key into this new file instead of showing it")
_GROUP: Final = Argument("group", "name of the group")
_WHY: Final = Option("--why", "why, for the history of the group")
_REGISTERED: Final = Option("--connectors", "registered connectors it may name, comma-separated")
_ONE_PIPELINE: Final = Option("--pipeline", "which one, where the file has several")
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
    Command("drill list", "the failover drills and what each does", "cli.commands.drills:listing"),
    Command(
        "drill run",
        "do a failover drill, on a cluster of its own or one that runs, and hold it to its objectives",
        "cli.commands.drills:run",
        (
            "up.nats_server",
            "client.timeout",
            "client.api_key_file",
            "client.tls_ca",
            "client.tls_cert",
            "client.tls_key",
        ),
        arguments=(Argument("name", "which drill, or `all`"),),
        options=(
            Option("--rounds", "how often each fault is injected", int, 3),
            Option("--against", "`local`, or the URL of a cluster, which will feel it", str, "local"),
            _YES,
            Option("--previous", "a checkout of the release before, for rolling-upgrade"),
        ),
        outputs=("table", "json", "html"),
        example="varpulis drill run all -o html > drills.html",
    ),
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
            _WHY,
            Option("--wait", "seconds to wait until every pipeline runs; 0: do not wait", float, 10.0),
        ),
        example="varpulis deploy deploy/examples/doors.vpl",
    ),
    Command(
        "update",
        "roll a group to another version, and back when that fails",
        "cli.commands.groups:update",
        CLIENT_KEYS,
        (_GROUP, _FILE),
        (
            Option("--dry-run", "only show what would be done", bool, False),
            Option("--if-version", "only if the group still has this version", int),
            _WHY,
            Option("--wait", "seconds to wait until the new version runs; 0: do not wait", float, 30.0),
        ),
        example="varpulis update doors deploy/examples/doors.vpl --dry-run",
    ),
    Command(
        "group history",
        "the last versions of a group: since when, by whom, why",
        "cli.commands.groups:history",
        CLIENT_KEYS,
        (_GROUP,),
    ),
    Command(
        "group rollback",
        "make a group again what it was before, or give up the update that is under way",
        "cli.commands.groups:rollback",
        CLIENT_KEYS,
        (_GROUP,),
        (
            Option("--to", "a version of its history; default: the last good one before the present", int),
            Option("--dry-run", "only show what would be done", bool, False),
            Option("--if-version", "only if the group still has this version", int),
            _WHY,
            Option("--wait", "seconds to wait until that version runs; 0: do not wait", float, 30.0),
        ),
        example="varpulis group rollback doors --to 2 --why 'too many alarms'",
    ),
    Command(
        "group scale",
        "give a pipeline another number of replicas, while it runs",
        "cli.commands.groups:scale",
        CLIENT_KEYS,
        (Argument("pipeline", "GROUP/PIPELINE"), Argument("replicas", "how many instances")),
        (
            Option("--dry-run", "only show what would be done", bool, False),
            Option("--if-version", "only if the group still has this version", int),
            _WHY,
            Option("--wait", "seconds to wait until all of them run; 0: do not wait", float, 30.0),
        ),
        example="varpulis group scale orders/totals 3",
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
        "events",
        "what the cluster decided: when, who, what, about whom, why",
        "cli.commands.events:events",
        CLIENT_KEYS,
        options=(
            Option(
                "--follow",
                "go on showing new ones until Ctrl-C; with -o json one document a line",
                bool,
                False,
                "-f",
            ),
            Option("--since", "only those above this number, or time in ms since 1970", int),
            Option("--about", "only what is about this, or lies below it: a group, group/pipeline, a worker"),
            Option("--what", "only this decision, or all that begin so: 'pipeline_*'"),
            Option("--by", "only what this one decided: api, placement, liveness, ..."),
            Option("--limit", "how many at most, 1 to 1000", int, 50),
        ),
        example="varpulis events --about doors --follow",
    ),
    Command(
        "scaling",
        "whether more or fewer workers are wanted, and why",
        "cli.commands.cluster:scaling",
        CLIENT_KEYS,
    ),
    Command(
        "rebalance",
        "even the loads of the workers with the fewest moves",
        "cli.commands.cluster:rebalance",
        CLIENT_KEYS,
        options=(Option("--dry-run", "only show what would be moved", bool, False),),
        example="varpulis rebalance --dry-run",
    ),
    Command("connector list", "the registered connectors", "cli.commands.connectors:list_all", CLIENT_KEYS),
    Command(
        "connector show",
        "one registered connector, its secrets hidden, and who uses it",
        "cli.commands.connectors:show",
        CLIENT_KEYS,
        (_CONNECTOR,),
    ),
    Command(
        "connector create",
        "register a connector that programs may name without declaring it",
        "cli.commands.connectors:create",
        CLIENT_KEYS,
        (_CONNECTOR, Argument("type", "nats, memory or console"), _PARAMS),
        _CONNECTOR_OPTIONS,
        example="varpulis connector create Bus nats servers=nats://10.0.0.1:4222 token=env:BUS_TOKEN",
    ),
    Command(
        "connector update",
        "change parameters of a connector; those not named stay, pipelines get them with their next deploy",
        "cli.commands.connectors:update",
        CLIENT_KEYS,
        (_CONNECTOR, _PARAMS),
        (*_CONNECTOR_OPTIONS, Option("--remove", "parameters to take out, comma-separated")),
        example="varpulis connector update Bus servers=nats://10.0.0.2:4222",
    ),
    Command(
        "connector delete",
        "forget a connector that no deployed program names",
        "cli.commands.connectors:delete",
        CLIENT_KEYS,
        (_CONNECTOR,),
    ),
    Command(
        "pipeline status",
        "the pipelines of a group, and how many seconds of events a death of their workers would cost",
        "cli.commands.groups:pipeline_status",
        CLIENT_KEYS,
        (Argument("pipeline", "GROUP, or GROUP/PIPELINE"),),
        example="varpulis pipeline status doors/doors",
    ),
    Command(
        "migrate",
        "move a pipeline to another worker, without losing an event",
        "cli.commands.moves:migrate",
        CLIENT_KEYS,
        (Argument("pipeline", "GROUP/PIPELINE"),),
        (Option("--to", "a worker; default: as placement would choose"), _FOLLOW),
        example="varpulis migrate doors/doors --to worker-1 --wait 30",
    ),
    Command(
        "migrations",
        "the pipelines that move, and those that have moved",
        "cli.commands.moves:migrations",
        CLIENT_KEYS,
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
        options=(_REGISTERED,),
        example="varpulis check deploy/examples/doors.vpl",
    ),
    Command(
        "run",
        "play events through a program here, without a cluster; exit code 1 when a line is no event",
        "cli.commands.programs:run",
        arguments=(_FILE,),
        options=(
            Option("--events", "JSON lines to play, - for standard input", default="-"),
            Option("--then", "how long time goes on after the last event; windows close", default="0s"),
            _ONE_PIPELINE,
            _REGISTERED,
        ),
        example="varpulis run deploy/examples/doors.vpl --events deploy/examples/doors.jsonl",
    ),
    Command(
        "explain",
        "what the streams of a program take, do and keep, and the Python made of it",
        "cli.commands.programs:explain",
        arguments=(_FILE,),
        options=(
            Option("--code", "print the generated Python as well", bool, False),
            _ONE_PIPELINE,
            _REGISTERED,
        ),
        example="varpulis explain deploy/examples/doors.vpl --code",
    ),
    Command(
        "fmt",
        "write VPL programs the one way: spaces, indents, line breaks; - formats standard input",
        "cli.commands.formatting:fmt",
        arguments=(Argument("files", "the programs, *.vpl", many=True),),
        options=(
            Option("--check", "change nothing; exit code 1 when a file is not formatted", bool, False),
            Option("--diff", "change nothing; show what would change", bool, False),
        ),
        shows=False,
        example="varpulis fmt --check deploy/examples/doors.vpl",
    ),
    Command(
        "key new",
        "make a file with a fresh API key, or a cluster key; needs no cluster",
        "cli.commands.keys:new",
        arguments=(Argument("file", "where to; only you can read it"),),
        options=(Option("--cluster", "a cluster key instead of an API key", bool, False),),
        example="varpulis key new admin.key",
    ),
    Command(
        "key create",
        "make an API key; it is shown once, or goes to a file",
        "cli.commands.keys:create",
        CLIENT_KEYS,
        (Argument("role", "worker, viewer, operator or admin"),),
        (
            Option("--worker", "for role worker: the id it counts for, or a prefix such as 'edge-*'"),
            Option("--note", "what it is for, shown in listings"),
            Option("--expires-in", "seconds until it counts no longer; 0: never", float, 0.0),
            _TO,
        ),
        example="varpulis key create operator --note 'deploy job' --to deploy.key",
    ),
    Command("key list", "the API keys, without their secrets", "cli.commands.keys:list_keys", CLIENT_KEYS),
    Command(
        "key revoke",
        "end an API key at once",
        "cli.commands.keys:revoke",
        CLIENT_KEYS,
        (_KEY,),
        (Option("--force", "also the last key of an admin", bool, False),),
    ),
    Command(
        "key rotate",
        "make an API key in place of another, which goes on counting for a while",
        "cli.commands.keys:rotate",
        CLIENT_KEYS,
        (_KEY,),
        (Option("--overlap", "seconds that the old key goes on counting", float, 86_400.0), _TO),
        example="varpulis key rotate 3f2a9c01d4e5 --overlap 3600 --to deploy.key.new",
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
        "worker drain",
        "cordon a worker and move its pipelines to others, without losing an event",
        "cli.commands.moves:drain",
        CLIENT_KEYS,
        (_WORKER,),
        (
            _FOLLOW,
            Option("--within", "seconds after which the cluster gives up; 0: never", float, 0.0),
            Option("--cancel", "stop draining it; what has moved stays where it is", bool, False),
        ),
        example="varpulis worker drain worker-0 --wait 60",
    ),
    Command(
        "worker cordon",
        "place nothing new on a worker; what it has stays",
        "cli.commands.moves:cordon",
        CLIENT_KEYS,
        (_WORKER,),
    ),
    Command(
        "worker uncordon",
        "place pipelines on a worker again",
        "cli.commands.moves:uncordon",
        CLIENT_KEYS,
        (_WORKER,),
    ),
    Command(
        "probe",
        "ask a process whether it is ready; exit code 1 when it is not, or does not answer",
        "cli.commands.deployment:probe",
        ("client.tls_ca", "client.tls_cert", "client.tls_key"),
        (
            Argument(
                "url",
                "what to ask; default: /readyz of the coordinator or worker whose settings these are",
                optional=True,
            ),
        ),
        (
            Option("--live", "only whether it lives: /livez", bool, False),
            Option("--within", "seconds for an answer", float, 3.0),
        ),
        shows=False,
        example="varpulis probe http://127.0.0.1:9100/readyz",
    ),
    Command(
        "checkpoints prepare",
        "make the bucket of checkpoints in JetStream, where workers may not; one that is there stays",
        "cli.commands.deployment:prepare",
        NATS_KEYS,
        options=(
            Option("--replicas", "of the bucket: 1, 3 or 5", int, 1),
            Option("--max-bytes", "of the bucket; 0: as many as the account allows", int, 0),
            Option("--within", "seconds to go on trying", float, 60.0),
        ),
        example="VARPULIS_NATS_USER=operator varpulis checkpoints prepare --replicas 3",
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
