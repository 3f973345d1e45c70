"""What a data directory remembers of its cluster: `cluster.json`, and the lock that keeps two `up`s
apart.

A process is named by its pid *and* the time it was created: a pid alone may long belong to somebody else,
and what is not surely ours is neither reported nor signalled. The file is replaced in one step (write,
sync, rename), so a reader sees the old or the new one, never half of one. The lock is held while starting
and stopping, not while watching.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from cli.errors import CliError

ROLES: Final = ("nats", "coordinator", "worker", "generator")
FORMAT: Final = 1
_SAME_START: Final = 1.0
"""Seconds by which two readings of one process's creation time may differ."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the cluster. `pid` 0: it was stopped; its id and port are kept for the next start."""

    role: str
    id: str
    pid: int = 0
    created: float = 0.0
    port: int = 0

    @property
    def url(self) -> str | None:
        """Where it listens."""
        if not self.port:
            return None
        return f"{'nats' if self.role == 'nats' else 'http'}://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """The very process that we started is alive (a zombie is not)."""
        return self.handle() is not None

    def handle(self) -> psutil.Process | None:
        """The process to signal, when it is alive and surely ours."""
        if not self.pid:
            return None
        try:
            found = psutil.Process(self.pid)
            ours = abs(found.create_time() - self.created) < _SAME_START
            return found if ours and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster of a data directory. `cluster_key`: its processes share one; older clusters have none."""

    format: int = FORMAT
    cluster_id: str
    http_port: int
    nats_port: int
    coordinators: int
    workers: int
    require_keys: bool = False
    cluster_key: bool = False
    processes: list[Process] = []

    @property
    def running(self) -> list[Process]:
        """What is alive, in the order of the roles, then by id."""
        alive = [process for process in self.processes if process.running]
        return sorted(alive, key=lambda process: (ROLES.index(process.role), len(process.id), process.id))

    def find(self, process_id: str) -> Process | None:
        """The process of that id, running or not."""
        return next((process for process in self.processes if process.id == process_id), None)

    def with_process(self, process: Process) -> "Record":
        """The record after `process` was started or stopped."""
        others = [other for other in self.processes if other.id != process.id]
        return msgspec.structs.replace(self, processes=[*others, process])


def load(data_dir: Path) -> Record | None:
    """What the directory remembers; `None` when no cluster was ever started in it.

    Raises:
        CliError: the file cannot be read or is of another format; names the remedy.
    """
    path = data_dir / "cluster.json"
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}: repair it, or take another --data-dir") from None
    if record.format != FORMAT or any(process.role not in ROLES for process in record.processes):
        raise CliError(f"{path} was written by another version: use that one, or take another --data-dir")
    return record


def save(data_dir: Path, record: Record) -> None:
    """Replace the record in one durable step."""
    path = data_dir / "cluster.json"
    fresh = path.with_suffix(".json.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record), indent=2))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@contextmanager
def locked(data_dir: Path, *, timeout: float = 10.0) -> Iterator[None]:
    """Be the only one who starts or stops processes in this directory.

    Raises:
        CliError: somebody else still does after `timeout` seconds, or the directory cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(
            f"cannot use the data directory {data_dir}: {error}: give another --data-dir"
        ) from None
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise CliError(
                    f"another `varpulis up` or `down` is at work in {data_dir}: wait until it is done"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def in_other_hands(data_dir: Path) -> bool:
    """Somebody is starting or stopping processes in this directory right now."""
    try:
        with locked(data_dir, timeout=0.0):
            return False
    except CliError:
        return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
