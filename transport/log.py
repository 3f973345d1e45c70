"""How a process of the cluster logs: one line per record on stderr, with the same fields in the same places.

`TIME LEVEL ID LOGGER MESSAGE`, and ` trace_id=...` at the end of what is said within a trace. Control
characters in a message are escaped, so no foreign text makes a second line; a traceback follows its line on
lines of its own.
"""

import logging
import sys
from typing import Final

from transport import tracing

QUIET: Final = ("httpx", "httpcore", "uvicorn.error", "opentelemetry")
"""Loggers of others that are heard from `WARNING` on."""


class LineFormatter(logging.Formatter):
    """Formats records of the process called `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {name} %(name)s %(message)s%(trace)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line."""
        trace_id = tracing.trace_id()
        record.trace = f" trace_id={trace_id}" if trace_id else ""
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(map(_escaped, text))


def to_stderr(name: str, level: int = logging.INFO) -> None:
    """Send this process's log to stderr, unless somebody has configured logging already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name))
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
