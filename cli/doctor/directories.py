"""Data directories: there, writable, ours, with room, on a disk that syncs fast enough to vote on."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.site import Site

LITTLE: Final = 1024**3
"""Bytes left that are worth a warning."""
TOO_LITTLE: Final = 100 * 1024**2
"""Bytes below which a compaction, which writes a snapshot beside the journal, may find no room."""
SYNCS: Final = 7
BLOCK: Final = b"\0" * 4096


def directories(site: Site) -> Iterator[Finding]:
    """Each data directory that is known here."""
    if not site.places:
        yield skipped("data directories", "no coordinator or worker of this machine is known")
    for place in site.places:
        about = f"{place.role} {place.id}"
        if not place.path.exists():
            yield _to_be_made(about, place.path)
            continue
        if not place.path.is_dir():
            yield fault(about, f"{place.path} is no directory", "name another --data-dir")
            continue
        yield from _standing(about, place.path)
        yield from _room(about, place.path)
        yield from _syncing(
            about, place.path, site.settings["coordinator.election_timeout_min"], place.role == "coordinator"
        )


def _to_be_made(about: str, path: Path) -> Finding:
    above = path.absolute()
    while not above.exists():
        above = above.parent
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok(about, f"{path} is not there yet and can be made")
    return fault(
        about,
        f"{path} is not there, and {above} cannot be written",
        f"make it, owned by {_user(os.geteuid())}",
    )


def _standing(about: str, path: Path) -> Iterator[Finding]:
    """Whose it is, and whether it can be written."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        yield warning(
            about,
            f"{path} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}",
            f"run this, and the process, as {_user(found.st_uid)}, or chown -R the directory",
        )
    if found.st_mode & 0o002:
        yield fault(about, f"every user of this machine may write in {path}", f"chmod o-w {path}")


def _room(about: str, path: Path) -> Iterator[Finding]:
    usage = shutil.disk_usage(path)
    said = f"{usage.free / 1024**2:,.0f} MiB of {usage.total / 1024**2:,.0f} free at {path}"
    if usage.free < TOO_LITTLE:
        yield fault(about, said, "make room: a journal that cannot be written withdraws its node")
    elif usage.free < LITTLE:
        yield warning(about, said, "make room before it is needed")
    else:
        yield ok(about, said)
    kind = _file_system(path)
    if kind in ("tmpfs", "ramfs"):
        yield warning(
            about,
            f"{path} lies in memory ({kind}), and is gone with the next start of this machine",
            "name a --data-dir on a disk",
        )


def _file_system(path: Path) -> str:
    """The type of the file system that holds it, where the system tells."""
    here, best = path.resolve(), ("", "")
    for part in psutil.disk_partitions(all=True):
        if here.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(best[0]):
            best = (part.mountpoint, part.fstype)
    return best[1]


def _syncing(about: str, path: Path, election: float, votes: bool) -> Iterator[Finding]:
    """Writes and syncs a block, as a journal does; a vote or an append waits for just that."""
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".doctor-") as file:
            took = []
            for _ in range(SYNCS):
                begun = time.perf_counter()
                file.write(BLOCK)
                file.flush()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - begun)
    except OSError as error:
        yield fault(about, f"{path} cannot be written: {error.strerror}", _remedy(error, path))
        return
    usual, most = statistics.median(took), max(took)
    said = f"a sync takes {usual * 1000:.1f} ms, {most * 1000:.1f} ms at most"
    slow = "give it a disk of its own, an SSD: see varpulis_cluster_raft_fsync_seconds"
    if votes and usual > election / 2:
        yield fault(about, f"{said}: elections are held every {election:g} s", slow)
    elif votes and usual > election / 10:
        yield warning(about, f"{said}: an election may be held after {election:g} s", slow)
    else:
        yield ok(about, said)


def _remedy(error: OSError, path: Path) -> str:
    import errno

    known = {
        errno.EROFS: "mount it for writing, or name another --data-dir",
        errno.ENOSPC: "make room there",
        errno.EDQUOT: "raise the quota, or make room there",
    }
    return known.get(error.errno or 0, f"chown or chmod {path} for {_user(os.geteuid())}")


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
