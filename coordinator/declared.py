"""What is wrong with the connectors that a program declares, and with the sources and sinks on them, found
before it is sent anywhere: an unknown type, parameters that it has not, of the wrong kind, or that contradict
each other; and, in what is replicated, secrets that are written out. Each finding points at the place.
"""

import re
from collections.abc import Iterator, Mapping

from coordinator.connectors import check
from proto_schemas.connectors import check_way, written_secrets
from vpl import Diagnostic, Program


def faults(source: str, program: Program, types: Mapping[str, str] | None = None) -> Iterator[Diagnostic]:
    """Connectors, sources and sinks that no worker would take. `types`: of registered connectors, by name."""
    for connector in program.connectors.values():
        try:
            check(connector.name, connector.type, connector.params)
        except ValueError as error:
            path, _, cause = str(error).partition(": ")
            what = path.removeprefix("$.params").removeprefix(".")
            about = f"the {what} of connector" if what and not what.startswith("$") else "connector"
            yield _at(source, connector.name, f"{about} {connector.name}: {cause}", "")
    known = {**(types or {}), **{name: each.type for name, each in program.connectors.items()}}
    ways = [(each.connector, "from", each.params) for each in program.sources]
    ways += [(each.connector, "to", each.params) for each in program.sinks if each.connector is not None]
    for name, way, params in ways:
        try:
            check_way(known.get(name, ""), way, params)
        except ValueError as error:
            place = _way(source, name, way, params)
            yield Diagnostic("error", *place, f".{way}({name}, ...): {error}", "")


def _way(source: str, name: str, way: str, params: Mapping[str, object]) -> tuple[int, int]:
    """The place of the source or sink with these parameters: the first that names them all."""
    found = list(re.finditer(rf"\.\s*{way}\s*\(\s*{re.escape(name)}\b[^)]*", source))
    fitting = [each for each in found if all(re.search(rf"\b{key}\s*:", each[0]) for key in params)]
    return _place(source, next((each.start() for each in (*fitting, *found)), 0))


def secrets_written(source: str, program: Program) -> Iterator[Diagnostic]:
    """Programs are replicated and shown as they are."""
    for connector in program.connectors.values():
        for name in written_secrets(connector.type, connector.params):
            yield _at(
                source,
                connector.name,
                f"the {name} of connector {connector.name} holds a secret: who may read a group reads its "
                "programs",
                f'write {name}: "env:NAME" or "file:PATH", or register it: varpulis connector create',
            )


def _at(source: str, name: str, message: str, hint: str) -> Diagnostic:
    found = re.search(rf"\bconnector\s+{re.escape(name)}\b", source)
    return Diagnostic("error", *_place(source, found.start() if found is not None else 0), message, hint)


def _place(source: str, offset: int) -> tuple[int, int]:
    before = source[:offset]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
