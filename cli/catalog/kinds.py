"""What a command is, in words that the parser, `--help` and docs/cli.md are made from."""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument; `many`: any number of them; `optional`: none or one; `words`: what a shell may
    offer for it, one of `cli.completion.words.KINDS`, `files`, or the choices themselves."""

    name: str
    help: str
    many: bool = False
    optional: bool = False
    words: str | tuple[str, ...] = ""


@dataclass(frozen=True, slots=True)
class Option:
    """A flag of one command that is no setting. `kind`: the type of its value; `bool`: it has none;
    `short`: its one letter, such as `-f`; `words`: as those of an argument."""

    flag: str
    help: str
    kind: type = str
    default: Any = None
    short: str = ""
    words: str | tuple[str, ...] = ""

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


_WATCHING: Final = (
    Option("--watch", "look again and again until Ctrl-C, and show what there is then", bool, False),
    Option("--every", "with --watch: seconds between two looks, 0.2 to 3600; default: 2", float),
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run`: `module:function`; `shows`: it takes `-o`, with the choices `outputs`, the first of
    which is the default; `watch`: it may be asked to look again and again; `example`: a line to learn from;
    `lenient`: wrong settings do not stop it, it tells of them.
    """

    name: str
    summary: str
    run: str
    settings: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    shows: bool = True
    outputs: tuple[str, ...] = ("table", "json", "yaml")
    watch: bool = False
    hidden: bool = False
    example: str = ""
    lenient: bool = False

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Its own, and those of watching."""
        return (*self.options, *_WATCHING) if self.watch else self.options


WIDE: Final = ("table", "wide", "json", "yaml")
"""The outputs of a listing that has more columns to show."""
YES: Final = Option("--yes", "do not ask", bool, False)
FOLLOW: Final = Option(
    "--wait", "seconds to follow it, and then fail unless it is done; 0: do not", float, 0.0
)
FILE: Final = Argument("file", "a group (.json) or a single program (.vpl)", words="files")
