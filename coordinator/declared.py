"""What is wrong with the connectors that a program declares, found before it is sent anywhere: an unknown
type, parameters that it has not, of the wrong kind, or that contradict each other; and, in what is
replicated, secrets that are written out. Each finding points at the declaration.
"""

import re
from collections.abc import Iterator

from coordinator.connectors import check
from proto_schemas.connectors import written_secrets
from vpl import Diagnostic, Program


def faults(source: str, program: Program) -> Iterator[Diagnostic]:
    """Connectors that no worker would take."""
    for connector in program.connectors.values():
        try:
            check(connector.name, connector.type, connector.params)
        except ValueError as error:
            path, _, cause = str(error).partition(": ")
            what = path.removeprefix("$.params").removeprefix(".")
            about = f"the {what} of connector" if what and not what.startswith("$") else "connector"
            yield _at(source, connector.name, f"{about} {connector.name}: {cause}", "")


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
    before = source[: found.start()] if found is not None else ""
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return Diagnostic("error", line, column, message, hint)
