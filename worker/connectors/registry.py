"""The connectors of one pipeline, by the names its program gives them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Self

from proto_schemas.messages import ConnectorHealth
from transport.subscription import Handler, Message
from vpl import ConnectorDecl, SinkBinding, SourceBinding
from worker.connectors.base import Connector, ConnectorError, Sink
from worker.connectors.console import ConsoleConnector, LineSink, log_line, print_line
from worker.connectors.memory import MemoryConnector
from worker.connectors.nats import ManagedNatsConnector

TYPES: Final[dict[str, type[Connector]]] = {
    kind.type: kind for kind in (ManagedNatsConnector, ConsoleConnector, MemoryConnector)
}
"""What a program may declare. A further type is one class and one line."""


class ConnectorRegistry:
    """Made from a program's declarations; a connector connects when it is first used."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._connectors = dict(connectors)

    @classmethod
    def from_configs(cls, declarations: Mapping[str, ConnectorDecl]) -> Self:
        """Check every declaration.

        Raises:
            ConnectorError: an unknown type, or parameters that are wrong.
        """
        connectors = {}
        for name, declaration in declarations.items():
            kind = TYPES.get(declaration.type)
            if kind is None:
                known = ", ".join(sorted(TYPES))
                raise ConnectorError(
                    f"connector {name}: unknown type {declaration.type!r}: use one of {known}"
                )
            connectors[name] = kind(name, declaration.params)
        return cls(connectors)

    async def start_source(self, binding: SourceBinding, receive: Handler, queue: str = "") -> None:
        """Bring the messages of `binding` to `receive`; `queue`: see `Connector.start_source`.

        Raises:
            ConnectorError: see `Connector.start_source`.
        """
        await self._named(binding.connector).start_source(binding.params, receive, queue)

    async def watch_source(self, binding: SourceBinding, see: Callable[[Message], None]) -> None:
        """Have `see` told of the messages of `binding`.

        Raises:
            ConnectorError: see `Connector.start_source`.
        """
        await self._named(binding.connector).watch_source(binding.params, see)

    async def stop_watching(self) -> None:
        """Tell no more."""
        for connector in self._connectors.values():
            await connector.stop_watching()

    async def create_sink(self, binding: SinkBinding) -> Sink:
        """Where the outputs of `binding` go.

        Raises:
            ConnectorError: see `Connector.create_sink`.
        """
        if binding.connector is None:
            return LineSink(log_line(binding.params["level"]) if binding.kind == "log" else print_line)
        return await self._named(binding.connector).create_sink(binding.stream, binding.params)

    def health_reports(self) -> list[ConnectorHealth]:
        """How each connector does."""
        return [connector.health() for connector in self._connectors.values()]

    @property
    def dropped(self) -> int:
        """Messages that came in faster than they were handled."""
        return sum(connector.dropped for connector in self._connectors.values())

    async def stop_sources(self) -> None:
        """Stop intake now."""
        for connector in self._connectors.values():
            await connector.stop_sources()

    async def drain_sources(self, timeout: float) -> None:
        """Stop intake and lose nothing, side by side; within about `timeout` seconds."""
        await asyncio.gather(*(each.drain_sources(timeout) for each in self._connectors.values()))

    async def flush(self, timeout: float) -> None:
        """Wait until what was put out has left; raises as `Connector.flush`."""
        await asyncio.gather(*(each.flush(timeout) for each in self._connectors.values()))

    async def shutdown(self, timeout: float) -> None:
        """Let go of everything, side by side; within about `timeout` seconds."""
        await asyncio.gather(*(connector.close(timeout) for connector in self._connectors.values()))

    def _named(self, name: str) -> Connector:
        if name not in self._connectors:
            raise ConnectorError(f"connector {name!r} is not declared: add `connector {name} = nats(...)`")
        return self._connectors[name]
