"""VPL programs, without a cluster (`check` may ask one)."""

from typing import Final

from cli.catalog.kinds import FILE, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_REGISTERED: Final = Option(
    "--connectors", "registered connectors it may name, comma-separated", words="connectors"
)
_ONE_PIPELINE: Final = Option("--pipeline", "which one, where the file has several")

COMMANDS: Final = (
    Command(
        "check",
        "find the mistakes in a VPL program; exit code 1 when there are any",
        "cli.commands.programs:check",
        CLIENT_KEYS,
        arguments=(FILE,),
        options=(
            _REGISTERED,
            Option("--cluster", "ask the cluster, which knows the connectors registered there", bool, False),
        ),
        example="varpulis check deploy/examples/doors.vpl",
    ),
    Command(
        "run",
        "play events through a program here, without a cluster; exit code 1 when a line is no event",
        "cli.commands.programs:run",
        arguments=(FILE,),
        options=(
            Option("--events", "JSON lines to play, - for standard input", default="-", words="files"),
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
        arguments=(FILE,),
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
        arguments=(Argument("files", "the programs, *.vpl", many=True, words="files"),),
        options=(
            Option("--check", "change nothing; exit code 1 when a file is not formatted", bool, False),
            Option("--diff", "change nothing; show what would change", bool, False),
        ),
        shows=False,
        example="varpulis fmt --check deploy/examples/doors.vpl",
    ),
)
