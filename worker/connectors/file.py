"""`connector Files = file(sync: "interval")`: JSON lines, read from and appended to files below the directory
that the worker allows (`worker.files_dir`, see `below`).

In: `path`, and `follow: true` to wait for more at its end (`lines`). How far it has come is part of the
pipeline's checkpoint; it goes on from there. A file lies on one machine, so a copy cannot be moved while it
runs. Out: `path`, `format`; the sinks of one connector that name one file share it (`appender`).
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from transport.errors import ErrorKind, NatsTransportError
from transport.subscription import Handler, Message
from worker.connectors.appender import SYNCS, Appender
from worker.connectors.base import (
    Connector,
    ConnectorError,
    Encode,
    Sink,
    Site,
    known_params,
    output_format,
)
from worker.connectors.below import PathRefused, event_type_of, open_below, parts_of
from worker.connectors.lines import LineReader

_LEAVE_WAIT: Final = 2.0


class FileConnector(Connector):
    """The files of one declared connector."""

    type = "file"
    resumes = True

    def __init__(self, name: str, params: Mapping[str, Any], site: Site) -> None:
        super().__init__(name, params, site)
        known_params(f"connector {name}", params, "sync")
        self._sync = params.get("sync", "interval")
        if self._sync not in SYNCS:
            raise ConnectorError(f"connector {name}: sync {self._sync!r} is unknown: use {', '.join(SYNCS)}")
        self._appenders: dict[str, Appender] = {}
        self._readers: dict[str, tuple[LineReader, asyncio.Task[None]]] = {}
        self._last_error: str | None = None
        self._lost: Counter[str] = Counter()

    async def start_source(self, params: Mapping[str, Any], receive: Handler, queue: str = "") -> None:
        known_params(f"source of connector {self.name}", params, "path", "follow")
        path, follow = self._path(params), params.get("follow", False)
        if not isinstance(follow, bool):
            raise ConnectorError(f"connector {self.name}: follow is true or false")
        if path in self._readers:
            return

        def open_file() -> int:
            return open_below(self.site.files, path, os.O_RDONLY)

        if not follow:
            os.close(await self._opened(path, os.O_RDONLY))
        subject, place = event_type_of(path), self._place(path)

        async def take(line: bytes) -> None:
            self.count_message()
            await receive(Message(subject, line))

        def note(position: int) -> None:
            self.positions[place] = position

        reader = LineReader(open_file, take, note, position=self.positions.get(place, 0), follow=follow)
        note(reader.position)
        self._readers[path] = reader, asyncio.create_task(reader.run())

    async def watch_source(self, params: Mapping[str, Any], see: Callable[[Message], None]) -> None:
        raise ConnectorError(
            f"connector {self.name}: a file is read where it lies, and not by two copies at a time: "
            "undeploy the pipeline, and deploy it where it is to run"
        )

    async def stop_watching(self) -> None:
        return None

    async def create_sink(self, stream: str, params: Mapping[str, Any]) -> Sink:
        known_params(f"sink of connector {self.name}", params, "path", "format")
        path, encode = self._path(params), output_format(self.name, params)
        if path not in self._appenders:
            descriptor = await self._opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self._appenders[path] = Appender(descriptor, path, self._sync)
        return _FileSink(self._appenders[path], encode)

    async def stop_sources(self) -> None:
        await self.drain_sources(0.0)

    async def drain_sources(self, timeout: float) -> None:
        """A line that is being handled is handled; the next is read by whoever goes on from here."""
        leaving, self._readers = self._readers, {}
        own = asyncio.current_task()
        tasks = {task for _, task in leaving.values() if task is not own}
        for reader, _ in leaving.values():
            reader.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout or _LEAVE_WAIT)
            for task in late:
                task.cancel()

    async def flush(self, timeout: float) -> None:
        flushed = await asyncio.gather(*(each.flush(timeout) for each in self._appenders.values()))
        if not all(flushed):
            raise NatsTransportError(
                ErrorKind.TIMEOUT, self.last_error or f"connector {self.name}: the disk is slow: look at it"
            )

    async def close(self, timeout: float) -> None:
        await self.stop_sources()
        appenders, self._appenders = self._appenders, {}
        await asyncio.gather(*(each.close(timeout) for each in appenders.values()))
        self._lost["not_written"] += sum(each.lost for each in appenders.values())

    @property
    def connected(self) -> bool:
        return self.last_error is None

    @property
    def last_error(self) -> str | None:
        for appender in self._appenders.values():
            if appender.error:
                return appender.error
        for path, (reader, _) in self._readers.items():
            if reader.error:
                return f"{path}: {reader.error}: waiting for it"
        return self._last_error

    @property
    def lost(self) -> Counter[str]:
        return self._lost

    def _place(self, path: str) -> str:
        return f"file:{self.name}:{path}"

    def _path(self, params: Mapping[str, Any]) -> str:
        try:
            return "/".join(parts_of(params.get("path")))
        except PathRefused as error:
            raise ConnectorError(f"connector {self.name}: {error}") from None

    async def _opened(self, path: str, flags: int) -> int:
        try:
            return await asyncio.to_thread(open_below, self.site.files, path, flags)
        except PathRefused as error:
            self._last_error = str(error)
            raise ConnectorError(f"connector {self.name}: {error}") from None
        except OSError as error:
            self._last_error = f"{path}: {error.strerror}"
            text = f"connector {self.name}: {path}: {error.strerror}: put it below the worker's files_dir"
            raise ConnectorError(text, retryable=True) from None


class _FileSink:
    def __init__(self, appender: Appender, encode: Encode) -> None:
        self._appender = appender
        self._encode = encode

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        self._appender.put(self._encode(event_type, fields, ts))
