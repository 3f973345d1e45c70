"""One call of a command: its settings, its arguments, and where its output goes.

With `-o json` or `-o yaml` stdout carries exactly one document, shown once; whatever else there is to say
goes to stderr.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.documents import FORMS, written
from cli.errors import UsageError
from cli.resolve import Settings
from cli.up import keys, record
from transport.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from rich.console import Console

    from cli.client import ClusterClient
    from cli.http import Progress

DEFAULT_URL: Final = "http://127.0.0.1:9100"
LONGEST_WAIT: Final = 60.0
"""Seconds that the API waits at most."""
_LOOPBACK: Final = re.compile(r"http://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)")
_PIPE_WIDTH: Final = 160
"""Columns of a table that goes to a file or a pipe, where no terminal says how wide it is."""
_WIDE_PIPE: Final = 1000
"""The same for `-o wide`: whoever asks for all of it wants it on one line."""
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""What would move a cursor, or worse: strangers name things, and give reasons."""


@dataclass(slots=True)
class Invocation:
    """What a command's function gets. `shown`: its result is out."""

    settings: Settings
    arguments: dict[str, Any] = field(default_factory=dict)
    output: str = "table"
    shown: bool = field(default=False, init=False)

    @property
    def for_programs(self) -> bool:
        """What is shown is a document, and nothing else may be on stdout."""
        return self.output in FORMS

    @property
    def data_dir(self) -> Path:
        return Path(self.settings["up.data_dir"])

    def directory(self, room: str, node_id: str) -> Path:
        """The data directory of one coordinator or worker."""
        return Path(self.settings[f"{room}.data_dir"] or Path(".varpulis") / node_id)

    @property
    def wait(self) -> float:
        """The seconds of `--wait`.

        Raises:
            UsageError: more than the cluster waits, or less than none.
        """
        wait = float(self.arguments["wait"])
        if not 0 <= wait <= LONGEST_WAIT:
            raise UsageError(f"--wait {wait:g} is out of range: give seconds from 0 to {LONGEST_WAIT:g}")
        return wait

    def connect(self, progress: "Progress | None" = None) -> "ClusterClient":
        """A client of the cluster at `urls`."""
        return self.client(self.urls(), self.settings["client.timeout"], progress)

    def client(
        self,
        urls: Sequence[str],
        timeout: float,
        progress: "Progress | None" = None,
        *,
        foreign: bool = False,
    ) -> "ClusterClient":
        """A client of certain coordinators, with our key. `foreign`: not those of the data directory, whose
        key must not go there.
        """
        from cli.client import ClusterClient  # only those who ask pay for an HTTP client

        key, tls = self.api_key(foreign=foreign), self.tls(urls)
        clear = [url for url in urls if key and url.startswith("http://") and not _LOOPBACK.match(url)]
        if clear:
            self.note(f"varpulis: the key goes to {clear[0]} in the clear: use https")
        return ClusterClient(urls, timeout=timeout, progress=progress, key=key, tls=tls)

    def api_key(self, *, foreign: bool = False) -> str:
        """Our key: the setting's, its file's, or (not if `foreign`) that of the cluster in the data
        directory or of the context; else empty.

        Raises:
            UsageError: a file that cannot be read.
        """
        from transport.keyring import read_secret

        given, file = self.settings["client.api_key"], self.settings["client.api_key_file"]
        if foreign and self.settings.from_context("client.api_key_file"):
            file = ""  # which is for the URLs of that context
        if given and not file:
            return str(given)
        if not file and not foreign and not self.settings["client.url"]:
            own = keys.admin(self.data_dir)
            file = str(own) if own.exists() else ""
        try:
            return read_secret(Path(file), "api_key_file") if file else ""
        except ConfigError as error:
            raise UsageError(str(error)) from None

    def tls(self, urls: Sequence[str]) -> "ssl.SSLContext | None":
        """Whom we trust, and who we are, at these URLs; None where none of them is https.

        Raises:
            ConfigError: a file of the settings cannot be used.
        """
        if not any(url.startswith("https://") for url in urls):
            return None
        from transport.tls import client_context

        ca, cert, key = (self.settings[f"client.tls_{name}"] for name in ("ca", "cert", "key"))
        return client_context(ca=ca, cert=cert, key=key)

    def urls(self) -> list[str]:
        """The coordinators meant: `--url` or the context's, else those that run in the data directory, else
        the default.
        """
        given: tuple[str, ...] | None = self.settings["client.url"]
        if given:
            return list(given)
        known = record.load(self.data_dir)
        running = known.running if known else []
        return [process.url for process in running if process.role == "coordinator" and process.url] or [
            DEFAULT_URL
        ]

    def show(self, document: Any, *tables: "Rows") -> None:
        """Print the document in the form that programs read, or the tables."""
        self.shown = True
        if self.for_programs:
            sys.stdout.write(written(document, self.output))
            sys.stdout.flush()
            return
        print_tables(tables, wide=self.output == "wide")

    def confirm(self, what: str, word: str) -> None:
        """Go on only when the user means it: he said `--yes`, or types `word` on a terminal.

        Raises:
            UsageError: he did neither; nothing is done.
        """
        if self.arguments["yes"]:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"{what}: nothing was done; say --yes if that is meant")
        sys.stderr.write(f"{what}. Type {word} to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != word:
            raise UsageError("that was another word: nothing was done")

    def note(self, text: str) -> None:
        """Say something that is not the result."""
        print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """A table to show, `-` standing for nothing; where there are no rows, the title alone tells.

    The last `further` columns are for `-o wide` alone. What stands in them may be missing from the answer of
    a coordinator of an older release, so it is looked up with `get`.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    further: int = 0

    def parts(self, *, wide: bool = False, edge: bool = True) -> Iterator[Any]:
        """What rich prints for it: the title, the table, or both; `edge`: an empty line above and below."""
        from rich.text import Text

        if self.title:
            yield Text(self.title, no_wrap=True, overflow="ignore")
        if self.rows or not self.title:
            yield self.rich(wide=wide, edge=edge)

    def rich(self, *, wide: bool = False, edge: bool = True) -> Any:
        """As a rich table; cells are text, never markup, since they hold what strangers named."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=edge)
        shown = len(self.headings) - (0 if wide else self.further)
        for heading in self.headings[:shown]:
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(_cell(value)) for value in row[:shown]))
        return table


def utc(milliseconds: float | None) -> str | None:
    """A time of the API, in ms since 1970, as a table shows it."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def print_tables(tables: Sequence[Rows], *, wide: bool = False) -> None:
    """Print them to stdout."""
    console = console_on_stdout(wide=wide)
    for table in tables:
        for part in table.parts(wide=wide):
            console.print(part, crop=False)


def console_on_stdout(*, wide: bool = False) -> "Console":
    """A rich console that does not squeeze tables into 80 columns when nobody has that terminal."""
    from rich.console import Console

    width = _WIDE_PIPE if wide else _PIPE_WIDTH
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def printable(text: str) -> str:
    """The text, with spaces for control characters other than line ends."""
    return _CONTROL.sub(" ", text)


def _cell(value: Any) -> str:
    return printable(_words(value))


def _words(value: Any) -> str:
    if value is None or value in ("", [], {}, ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
