"""The connectors of one pipeline, by the names its program gives them."""

import asyncio
import importlib
import pkgutil
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self

from proto_schemas.messages.membership import ConnectorHealth
from transport.subscription import Handler, Message
from vpl import ConnectorDecl, SinkBinding, SourceBinding
from worker import connectors as room
from worker.connectors.base import Connector, ConnectorError, Sink, Site
from worker.connectors.console import LineSink, log_line, print_line

_NO_TYPES: Final = frozenset({"base", "registry"})


def find_types() -> dict[str, type[Connector]]:
    """The connectors in the files of this package, by type."""
    names = [found.name for found in pkgutil.iter_modules(room.__path__) if found.name not in _NO_TYPES]
    modules = [importlib.import_module(f"{room.__name__}.{name}") for name in names]
    return {
        kind.type: kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Connector) and kind.__module__ == module.__name__
    }


TYPES: Final[dict[str, type[Connector]]] = find_types()
"""What a program may declare: the connectors of all files beside this one."""


class ConnectorRegistry:
    """Made from a program's declarations; a connector connects when it is first used."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._connectors = dict(connectors)

    @classmethod
    def from_configs(cls, declarations: Mapping[str, ConnectorDecl], site: Site | None = None) -> Self:
        """Check every declaration. `site`: what the worker gives them.

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
            connectors[name] = kind(name, declaration.params, site or Site())
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

    def handed_out(self, sources: Iterable[SourceBinding]) -> str:
        """The connector of a source of which one instance gets each message; empty: there is none."""
        for each in sources:
            if self._named(each.connector).is_handed_out(each.params):
                return each.connector
        return ""

    @property
    def redelivered(self) -> int:
        """Messages that came more than once."""
        return sum(connector.redelivered for connector in self._connectors.values())

    @property
    def lost(self) -> Counter[str]:
        """Messages and outputs that were taken and given up after all, by reason."""
        return sum((connector.lost for connector in self._connectors.values()), Counter())

    @property
    def positions(self) -> Mapping[str, int]:
        """How far the sources have come: the truth at each moment it is read, no copy."""
        return ChainMap(*(connector.positions for connector in self._connectors.values()))

    def resumes(self, sources: Iterable[SourceBinding]) -> bool:
        """Whether one of these sources can go on where it was."""
        return any(self._connectors[each.connector].resumes for each in sources)

    def go_from(self, positions: Mapping[str, Any]) -> None:
        """Have sources begin there, as far as they are those of these connectors, and positions at all: a
        checkpoint may come from a stranger."""
        for connector in self._connectors.values():
            own = f"{connector.type}:{connector.name}:"
            connector.positions.update(
                {
                    place: at
                    for place, at in positions.items()
                    if place.startswith(own) and type(at) is int and at >= 0
                }
            )

    def keep(self) -> None:
        """A state that checkpoints hold depends on what is read; say so before a source starts."""
        for connector in self._connectors.values():
            connector.keeps = True

    def handled(self) -> Mapping[str, Mapping[str, int]]:
        """How far the sources are whose messages wait to be covered, by connector; for `cover`."""
        return {name: handled for name, each in self._connectors.items() if (handled := each.handled())}

    async def cover(self, handled: Mapping[str, Mapping[str, int]]) -> None:
        """A checkpoint holds what had been handled then."""
        for name, counts in handled.items():
            await self._connectors[name].cover(counts)

    async def settle(self) -> None:
        """See `Connector.settle`."""
        for connector in self._connectors.values():
            await connector.settle()

    @property
    def crowded(self) -> bool:
        """A source waits for a checkpoint."""
        return any(connector.crowded for connector in self._connectors.values())

    async def stop_sources(self) -> None:
        """Stop intake now."""
        for connector in self._connectors.values():
            await connector.stop_sources()

    async def drain_sources(self, timeout: float) -> None:
        """Stop intake and lose nothing, side by side; within about `timeout` seconds."""
        await asyncio.gather(*(each.drain_sources(timeout) for each in self._connectors.values()))

    async def catch_up(self) -> None:
        """Wait until what has arrived by now is handled."""
        await asyncio.gather(*(each.catch_up() for each in self._connectors.values()))

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
