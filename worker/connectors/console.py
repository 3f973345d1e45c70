"""`connector Out = console()`, and the sinks of `.print` and `.log`: one line of JSON for each output."""

import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from transport.subscription import Handler, Message
from worker.connectors.base import (
    Connector,
    ConnectorError,
    OutputDropped,
    Sink,
    Site,
    encode_output,
    known_params,
)
from worker.connectors.writer import LINES, LineWriter

_log: Final = logging.getLogger("varpulis.output")


class LineSink:
    """Has each output written as one line. What could not be written is told by the sends that follow."""

    def __init__(self, write: Callable[[str], object], lines: LineWriter = LINES) -> None:
        self._write = write
        self._lines = lines
        self._failed: deque[Exception] = deque()

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        line = encode_output(event_type, fields, ts).decode()
        self._lines.offer(self._write, line, self._failed.append)
        if self._failed:
            raise OutputDropped("sink_error", str(self._failed.popleft()))


def print_line(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def log_line(level: str) -> Callable[[str], None]:
    """To the log, logger `varpulis.output`, at a level of `.log` ("info", "warn", ...)."""
    number = logging.getLevelNamesMapping()[level.upper()]
    return lambda line: _log.log(number, "%s", line)


class ConsoleConnector(Connector):
    """Standard output as a sink; there is no source."""

    type = "console"

    def __init__(self, name: str, params: Mapping[str, Any], site: Site) -> None:
        super().__init__(name, params, site)
        known_params(f"connector {name}", params)

    async def start_source(self, params: Mapping[str, Any], receive: Handler, queue: str = "") -> None:
        raise ConnectorError(
            f"connector {self.name}: a console brings no events: use nats or memory as a source"
        )

    async def watch_source(self, params: Mapping[str, Any], see: Callable[[Message], None]) -> None:
        raise ConnectorError(f"connector {self.name}: a console brings no events")

    async def stop_watching(self) -> None:
        return None

    async def create_sink(self, stream: str, params: Mapping[str, Any]) -> Sink:
        known_params(f"sink of connector {self.name}", params)
        return LineSink(print_line)

    async def stop_sources(self) -> None:
        return None

    async def flush(self, timeout: float) -> None:
        await LINES.flush(timeout)

    async def close(self, timeout: float) -> None:
        await LINES.flush(timeout)

    @property
    def connected(self) -> bool:
        return True
