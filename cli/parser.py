"""The command line, made from the tables of commands and settings.

argparse, because the tables already say everything: it adds the reading and costs no start-up time, of
which five processes of a cluster pay each their own. What it refuses becomes a `UsageError`, like any
other mistake.
"""

import argparse
import difflib
import re
from typing import Any, Final, NoReturn

from cli.catalog import COMMANDS, Argument, Command, Option
from cli.errors import UsageError
from cli.setting import Setting
from cli.settings import BY_KEY

_EXIT_CODES: Final = "exit codes: 0 done, 1 the operation failed, 2 wrong usage or configuration"
_CHOICE: Final = re.compile(r"COMMAND: invalid choice: '(?P<word>[^']*)' \(choose from (?P<known>.*)\)")
_GROUPS: Final = {
    "group": "the versions of a pipeline group",
    "pipeline": "look at pipelines one by one",
    "raft": "the Raft group of the coordinators",
    "raft snapshot": "copies of the replicated state",
    "checkpoints": "where checkpoints lie",
    "completion": "scripts that complete command lines in a shell",
    "config": "the configuration",
    "context": "clusters by name",
    "connector": "connectors that programs may name without declaring them",
    "drill": "failover drills: a fault on purpose, and what it cost",
    "key": "API keys, and files of keys",
    "migration": "look at migrations one by one",
}


def noun(words: str) -> str:
    """What the commands are about that begin with these words."""
    return _GROUPS.get(words, "")


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting."""

    def error(self, message: str) -> NoReturn:
        if choice := _CHOICE.search(message):
            known = [word.strip(" '") for word in choice["known"].split(",")]
            close = difflib.get_close_matches(choice["word"], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "options come after the command"
            message = f"no command {choice['word']!r}: {hint}"
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def parse(arguments: list[str]) -> tuple[Command, dict[str, Any]]:
    """The command that was called and what was given with it, by setting key or option name.

    Raises:
        UsageError: no such command, unknown or missing arguments.
        SystemExit: 0, after `--help`.
    """
    parser = build()
    given = vars(parser.parse_args(arguments))
    command = given.pop("command", None)
    if command is None:
        parser.print_usage()
        raise UsageError("which command? `varpulis --help` lists them")
    return command, given


def build() -> argparse.ArgumentParser:
    """The whole parser."""
    return _built()[0]


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name; for who wants to know what it takes."""
    return _built()[1]


def _built() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog="varpulis",
        description="Streaming pipelines on a cluster of workers, placed by coordinators that agree by Raft.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    places: dict[str, Any] = {"": parser.add_subparsers(metavar="COMMAND", title="commands")}
    parsers: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group in parsers and group not in places:  # a command that has others below it
            places[group] = parsers[group].add_subparsers(metavar="COMMAND")
        parsers[command.name] = _add_command(_place(places, group), name, command)
    return parser, parsers


def _place(places: dict[str, Any], group: str) -> Any:
    """Where the commands of a group belong; the group is made when this is its first."""
    if group not in places:
        parent, _, name = group.rpartition(" ")
        parser = _place(places, parent).add_parser(name, help=_GROUPS[group], allow_abbrev=False)
        places[group] = parser.add_subparsers(metavar="COMMAND", required=True)
    return places[group]


def _add_command(place: Any, name: str, command: Command) -> argparse.ArgumentParser:
    shown = {} if command.hidden else {"help": command.summary}
    epilog = f"example: {command.example}; {_EXIT_CODES}" if command.example else _EXIT_CODES
    parser: argparse.ArgumentParser = place.add_parser(
        name, description=command.summary, epilog=epilog, allow_abbrev=False, **shown
    )
    parser.set_defaults(command=command)
    for argument in command.arguments:
        _add_argument(parser, argument)
    for option in command.all_options:
        _add_option(parser, option)
    for key in command.settings:
        _add_setting(parser, BY_KEY[key])
    if command.shows:
        parser.add_argument(
            "-o", "--output", choices=command.outputs, default=command.outputs[0], help="how to show it"
        )
    parser.add_argument("--config", metavar="FILE", help="TOML file (VARPULIS_CONFIG, ./varpulis.toml)")
    return parser


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    if argument.many or argument.optional:
        parser.add_argument(argument.name, nargs="*" if argument.many else "?", help=argument.help)
    else:
        parser.add_argument(argument.name, help=argument.help)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.kind is bool:
        parser.add_argument(*option.flags, dest=option.name, action="store_true", help=option.help)
        return
    default = "" if option.default is None else f" (default: {option.shown_default})"
    parser.add_argument(
        *option.flags, dest=option.name, type=option.kind, default=option.default, help=option.help + default
    )


def _add_setting(parser: argparse.ArgumentParser, setting: Setting) -> None:
    if not setting.flag:
        return
    default = "" if setting.default in (None, "", ()) else f", default {setting.in_words}"
    text = f"{setting.help} ({setting.variable}{default})"
    if setting.kind == "switch":
        parser.add_argument(setting.flag, dest=setting.key, action=argparse.BooleanOptionalAction, help=text)
        return
    action = "append" if setting.kind == "list" else "store"
    metavar = setting.flag.rpartition("-")[2].upper()
    parser.add_argument(setting.flag, dest=setting.key, action=action, metavar=metavar, help=text)
