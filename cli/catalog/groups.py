"""Pipeline groups and their pipelines."""

from typing import Final

from cli.catalog.kinds import FILE, FOLLOW, WIDE, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_GROUP: Final = Argument("group", "name of the group", words="groups")
_PIPELINE: Final = Argument("pipeline", "GROUP/PIPELINE", words="pipelines")
_WHY: Final = Option("--why", "why, for the history of the group")
_NEW_VERSION: Final = (
    Option("--dry-run", "only show what would be done", bool, False),
    Option("--if-version", "only if the group still has this version", int),
    _WHY,
)
"""Of all that makes one."""

COMMANDS: Final = (
    Command(
        "groups",
        "the pipeline groups and where their pipelines run",
        "cli.commands.cluster:groups",
        CLIENT_KEYS,
        outputs=WIDE,
        watch=True,
    ),
    Command(
        "deploy",
        "deploy a pipeline group and wait until it runs",
        "cli.commands.groups:deploy",
        CLIENT_KEYS,
        (FILE,),
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
        (_GROUP, FILE),
        (
            *_NEW_VERSION,
            Option("--wait", "seconds to wait until the new version runs; 0: do not wait", float, 30.0),
        ),
        example="varpulis update doors deploy/examples/doors.vpl --dry-run",
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
        "group show",
        "one group: its pipelines, their routes, how it delivers; --source: the programs, too",
        "cli.commands.groups:show",
        CLIENT_KEYS,
        (_GROUP,),
        (Option("--source", "print the programs as well", bool, False),),
        example="varpulis group show doors --source",
        watch=True,
    ),
    Command(
        "group history",
        "the last versions of a group: since when, by whom, why",
        "cli.commands.groups:history",
        CLIENT_KEYS,
        (_GROUP,),
        watch=True,
    ),
    Command(
        "group rollback",
        "make a group again what it was before, or give up the update that is under way",
        "cli.commands.groups:rollback",
        CLIENT_KEYS,
        (_GROUP,),
        (
            Option("--to", "a version of its history; default: the last good one before the present", int),
            *_NEW_VERSION,
            Option("--wait", "seconds to wait until that version runs; 0: do not wait", float, 30.0),
        ),
        example="varpulis group rollback doors --to 2 --why 'too many alarms'",
    ),
    Command(
        "group scale",
        "give a pipeline another number of replicas, while it runs",
        "cli.commands.groups:scale",
        CLIENT_KEYS,
        (_PIPELINE, Argument("replicas", "how many instances")),
        (
            *_NEW_VERSION,
            Option("--wait", "seconds to wait until all of them run; 0: do not wait", float, 30.0),
        ),
        example="varpulis group scale orders/totals 3",
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
        "inject-batch",
        "send many events into a group; exit code 1 when one of them was not taken",
        "cli.commands.batch:inject_batch",
        CLIENT_KEYS,
        (
            _GROUP,
            Argument("file", "JSON lines, each with event_type and its fields; - reads stdin", words="files"),
        ),
        (Option("--size", "events of one request", int, 1000),),
        example="varpulis inject-batch doors deploy/examples/doors.jsonl",
    ),
    Command(
        "pipeline status",
        "the pipelines of a group, and how many seconds of events a death of their workers would cost",
        "cli.commands.groups:pipeline_status",
        CLIENT_KEYS,
        (Argument("pipeline", "GROUP, or GROUP/PIPELINE", words="pipelines"),),
        outputs=WIDE,
        watch=True,
        example="varpulis pipeline status doors/doors",
    ),
    Command(
        "migrate",
        "move a pipeline to another worker, without losing an event",
        "cli.commands.moves:migrate",
        CLIENT_KEYS,
        (_PIPELINE,),
        (Option("--to", "a worker; default: as placement would choose", words="workers"), FOLLOW),
        example="varpulis migrate doors/doors --to worker-1 --wait 30",
    ),
)
