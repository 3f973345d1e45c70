"""Names that a shell may offer: those that the cluster knows now, and those of tables.

Who presses Tab waits for this, so it has a second, and silence is an answer.
"""

import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cli.client import ClusterClient
    from cli.invocation import Invocation

DEADLINE: Final = 1.0
"""Seconds for whatever the cluster is asked, names of machines included; loading our own code is extra."""
_SAFE: Final = re.compile(r"[A-Za-z0-9_./:@+-]+")
"""What no shell takes for anything but itself."""


def _named(path: str, items: str, key: str = "id") -> "Callable[[Invocation], Iterable[str]]":
    def names(call: "Invocation") -> list[str]:
        with _client(call) as client:
            return [str(one[key]) for one in client.get(path, limit=1000)[items]]

    return names


def _client(call: "Invocation") -> "ClusterClient":
    return call.client(call.urls(), DEADLINE)


def _pipelines(call: "Invocation") -> Iterable[str]:
    with _client(call) as client:
        groups: list[dict[str, Any]] = client.get("/pipeline-groups", limit=1000)["pipeline_groups"]
    return [
        f"{group['name']}/{name}"
        for group in groups
        for name in sorted({one["instance_of"] for one in group["placements"]})
    ]


def _coordinators(call: "Invocation") -> Iterable[str]:
    with _client(call) as client:
        return [node["id"] for node in client.get("/raft")["nodes"]]


def _drills(call: "Invocation") -> Iterable[str]:
    from cli.drills.catalog import DRILLS

    return ["all", *DRILLS]


def _checks(call: "Invocation") -> Iterable[str]:
    from cli.doctor.table import CHECKS

    return [check.name for check in CHECKS]


def _contexts(call: "Invocation") -> Iterable[str]:
    found = call.settings.contexts
    return sorted(found.known) if found else []


KINDS: "Final[dict[str, Callable[[Invocation], Iterable[str]]]]" = {
    "groups": _named("/pipeline-groups", "pipeline_groups", "name"),
    "pipelines": _pipelines,
    "workers": _named("/workers", "workers"),
    "connectors": _named("/connectors", "connectors", "name"),
    "migrations": _named("/migrations", "migrations"),
    "keys": _named("/keys", "keys"),
    "coordinators": _coordinators,
    "drills": _drills,
    "checks": _checks,
    "contexts": _contexts,
}


TABLES: Final = frozenset({"drills", "checks", "contexts"})
"""Kinds that are known here: there is nobody to wait for."""


def known(kind: str, call: "Invocation") -> list[str]:
    """The words of a kind; none where they cannot be had in time, whatever the reason."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(word for word in KINDS[kind](call) if _SAFE.fullmatch(word))
        except Exception:  # nothing that could be said here would help who pressed Tab
            return

    if kind in TABLES:
        ask()
        return found
    import cli.client  # noqa: F401  before the clock runs

    asking = threading.Thread(target=ask, daemon=True)  # a look-up of a name has no deadline of its own
    asking.start()
    asking.join(DEADLINE)
    return list(found)
