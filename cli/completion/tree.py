"""What may stand where on a command line, from the tables of commands and settings."""

from dataclasses import dataclass, field
from typing import Final

from cli.catalog import COMMANDS, Command
from cli.parser import noun
from cli.setting import Setting
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
        _fill(found[command.name], command)
    return found


def _fill(level: Level, command: Command) -> None:
    level.places = [_takes(argument.words) for argument in command.arguments]
    level.many = any(argument.many for argument in command.arguments)
    level.flags = [
        Flag(option.flags, option.help, NOTHING if option.kind is bool else _takes(option.words))
        for option in command.options
    ]
    level.flags += [
        Flag(setting.flags, setting.help, _of_setting(setting))
        for setting in (BY_KEY[key] for key in command.settings)
        if setting.flags
    ]
    if command.shows:
        level.flags.append(Flag(("-o", "--output"), "how to show it", _takes(command.outputs)))
    level.flags.append(Flag(("--config",), "TOML file of settings", FILES))
    level.flags.append(Flag(("-h", "--help"), "what it does, and exit", NOTHING))


def _of_setting(setting: Setting) -> str:
    if setting.kind == "switch":
        return NOTHING
    if setting.key == "client.context":
        return "contexts"
    return FILES if setting.key.endswith(_PATHS) else ANYTHING


def _takes(words: str | tuple[str, ...]) -> str:
    if isinstance(words, tuple):
        return " ".join((_CHOICES, *words))
    return words or ANYTHING
