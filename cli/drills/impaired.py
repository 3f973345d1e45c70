"""`varpulis` on a disk that is slow or full, and by a clock that jumps: a process that a drill starts so.

    python -m cli.drills.impaired DIRECTORY coordinator --id ...

What is wrong is what lies in DIRECTORY while it runs: `slow` holds the milliseconds that each sync of the
Raft journal takes longer, `full` makes each write of it fail as on a full disk, and `clock` holds the
milliseconds by which the wall clock is off. The faults sit where the process meets its disk and its clock;
nothing of them is in a process that is started as usual.
"""

import errno
import os
import sys
import time
from pathlib import Path

from raft.disk import Disk

SLOW, FULL, CLOCK = "slow", "full", "clock"


def main(argv: list[str]) -> int:
    """Impair this process, then be `varpulis`."""
    directory = Path(argv[0])
    _impair_disk(directory)
    _impair_clock(directory)
    from cli.main import main as varpulis

    return varpulis(argv[1:])


def _impair_disk(directory: Path) -> None:
    real_sync, real_write = Disk.sync, Disk.write

    def sync(disk: Disk, descriptor: int) -> None:
        real_sync(disk, descriptor)
        if delay := _held(directory / SLOW):
            time.sleep(delay / 1000)

    def write(disk: Disk, descriptor: int, data: bytes) -> None:
        if (directory / FULL).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_write(disk, descriptor, data)

    Disk.sync, Disk.write = sync, write  # type: ignore[method-assign, assignment]


def _impair_clock(directory: Path) -> None:
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + _held(directory / CLOCK) / 1000
    time.time_ns = lambda: real_ns() + _held(directory / CLOCK) * 1_000_000


def _held(path: Path) -> int:
    """The number in a file; 0 without it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
