"""What may stand where on a command line: of the parser, and of the tables that it is made from."""

import argparse
from dataclasses import dataclass, field
from typing import Final

from cli.catalog import COMMANDS, Command
from cli.parser import noun, parsers
from cli.settings import BY_KEY, CLIENT_KEYS

NOTHING: Final = "nothing"
ANYTHING: Final = "anything"
FILES: Final = "files"
_CHOICES: Final = "one of"
_PATHS: Final = ("_file", "_ca", "_cert", "_key", "_dir", "_server", "creds", "contexts")
"""How keys of settings end whose values are paths."""


@dataclass(frozen=True, slots=True)
class Flag:
    """An option; `takes`: `nothing`, `anything`, `files`, `one of A B ...`, or a kind of words."""

    words: tuple[str, ...]
    help: str
    takes: str


@dataclass(slots=True)
class Level:
    """What may follow some words: further ones, options, and arguments, by place; `many`: the last of them
    any number of times."""

    below: dict[str, str] = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    many: bool = False


CLUSTER_FLAGS: Final = tuple(flag for key in CLIENT_KEYS for flag in BY_KEY[key].flags)
"""Those that say which cluster is asked for its words."""


def levels() -> dict[str, Level]:
    """By the words that stand before, none included; hidden commands excluded."""
    found: dict[str, Level] = {"": Level()}
    known = parsers()
    for command in COMMANDS:
        if command.hidden:
            continue
        above = ""
        for word in command.name.split():
            here = f"{above} {word}".strip()
            found[above].below.setdefault(word, noun(here))
            found.setdefault(here, Level())
            above = here
        last = command.name.rpartition(" ")
        found[last[0]].below[last[2]] = command.summary
        _fill(found[command.name], command, known[command.name])
    return found


def _fill(level: Level, command: Command, parser: argparse.ArgumentParser) -> None:
    level.places = [_words(argument.words) for argument in command.arguments]
    level.many = any(argument.many for argument in command.arguments)
    words = {option.name: option.words for option in command.options}
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            takes = NOTHING if action.nargs in (0, "?") else _takes(action, words)
            level.flags.append(
                Flag(tuple(action.option_strings), (action.help or "").replace("%%", "%"), takes)
            )


def _takes(action: argparse.Action, words: dict[str, str | tuple[str, ...]]) -> str:
    """What the value of an option may be."""
    if action.choices:
        return _words(tuple(action.choices))
    if action.dest == "client.context":
        return "contexts"
    if action.dest == "config" or (action.dest in BY_KEY and action.dest.endswith(_PATHS)):
        return FILES
    return _words(words.get(action.dest, ""))


def _words(words: str | tuple[str, ...]) -> str:
    if isinstance(words, tuple):
        return " ".join((_CHOICES, *words))
    return words or ANYTHING
