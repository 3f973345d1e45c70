"""The cluster as a whole, and its workers."""

from typing import Final

from cli.catalog.kinds import FOLLOW, WIDE, YES, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_WORKER: Final = Argument("id", "id of the worker", words="workers")

COMMANDS: Final = (
    Command(
        "status",
        "the cluster in a few lines: leader, workers, groups",
        "cli.commands.cluster:status",
        CLIENT_KEYS,
        watch=True,
    ),
    Command(
        "workers",
        "the workers and what runs on them",
        "cli.commands.cluster:workers",
        CLIENT_KEYS,
        outputs=WIDE,
        watch=True,
        example="varpulis workers --watch",
    ),
    Command(
        "top",
        "the cluster on one screen, live: problems, coordinators, workers, pipelines; q ends, s sorts",
        "cli.commands.top:top",
        CLIENT_KEYS,
        options=(Option("--every", "seconds between two looks, 0.2 to 3600; default: 2", float),),
        example="varpulis top",
    ),
    Command(
        "topology",
        "what runs where, and how events flow from pipeline to pipeline",
        "cli.commands.cluster:topology",
        CLIENT_KEYS,
        watch=True,
    ),
    Command(
        "events",
        "what the cluster decided: when, who, what, about whom, why",
        "cli.commands.events:events",
        CLIENT_KEYS,
        options=(
            Option(
                "--follow",
                "go on showing new ones until Ctrl-C; with -o json one document a line, with -o yaml a `---` "
                "between two",
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
        outputs=WIDE,
        example="varpulis events --about doors --follow",
    ),
    Command(
        "scaling",
        "whether more or fewer workers are wanted, and why",
        "cli.commands.cluster:scaling",
        CLIENT_KEYS,
        watch=True,
    ),
    Command(
        "rebalance",
        "even the loads of the workers with the fewest moves",
        "cli.commands.cluster:rebalance",
        CLIENT_KEYS,
        options=(Option("--dry-run", "only show what would be moved", bool, False),),
        example="varpulis rebalance --dry-run",
    ),
    Command(
        "migrations",
        "the pipelines that move, and those that have moved",
        "cli.commands.moves:migrations",
        CLIENT_KEYS,
        outputs=WIDE,
        watch=True,
    ),
    Command(
        "migration show",
        "one migration: from where to where, how far it is, and why",
        "cli.commands.moves:migration",
        CLIENT_KEYS,
        (Argument("id", "id of the migration, as `varpulis migrations` tells it", words="migrations"),),
        watch=True,
    ),
    Command(
        "worker show",
        "one worker: its state, its labels, what runs on it",
        "cli.commands.workers:show",
        CLIENT_KEYS,
        (_WORKER,),
        watch=True,
    ),
    Command(
        "worker remove",
        "take a worker out; one that lives and was not stopped joins again",
        "cli.commands.workers:remove",
        CLIENT_KEYS,
        (_WORKER,),
        (
            Option("--force", "also when it holds pipelines, which are then placed elsewhere", bool, False),
            YES,
        ),
        example="varpulis worker remove worker-7 --yes",
    ),
    Command(
        "worker drain",
        "cordon a worker and move its pipelines to others, without losing an event",
        "cli.commands.moves:drain",
        CLIENT_KEYS,
        (_WORKER,),
        (
            FOLLOW,
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
)
