"""The configuration of the nats-server that `up` starts.

Loopback only. Its limits let a frozen subscriber be cut off after two seconds instead of holding back
everybody who publishes to its subjects, and keep what it holds for one client to 8 MB. With JetStream, for
groups that deliver at least once or exactly once; it costs nothing where there is none.

A server refuses a configuration with a word that it does not know, so one that is older than the packaged one
(`--nats-server`, or PATH) gets what its version knows.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Final

Version = tuple[int, int]

NO_STALL: Final[Version] = (2, 11)
"""Since when `no_fast_producer_stall` is known."""
SYNC: Final[Version] = (2, 10)
"""Since when `sync_interval` is known."""
_NEWEST: Final[Version] = (99, 0)


def write(directory: Path, port: int, version: Version = _NEWEST) -> Path:
    """Write `nats.conf` into `directory`, for a server of that version; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "nats.conf"
    sync = ", sync_interval: always" if version >= SYNC else ""
    path.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"pid_file: {json.dumps(str(directory / 'nats.pid'))}\n"
        "max_pending: 8MB\n"
        'write_deadline: "2s"\n'
        + ("no_fast_producer_stall: true\n" if version >= NO_STALL else "")
        + f"jetstream: {{ store_dir: {json.dumps(str(directory / 'jetstream'))}{sync} }}\n"
    )
    return path


def version_of(binary: Path) -> Version:
    """What the server says it is; the newest where it says nothing that can be read."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return _NEWEST
    found = re.search(r"v(\d+)\.(\d+)\.", said.stdout)
    return (int(found[1]), int(found[2])) if found else _NEWEST
