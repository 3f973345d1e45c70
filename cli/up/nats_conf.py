"""The configuration of the nats-server that `up` starts.

Loopback only. Its limits let a frozen subscriber be cut off after two seconds instead of holding back
everybody who publishes on its subjects, and keep what it holds for one client to 8 MB. With JetStream, for
groups that deliver at least once or exactly once; it costs nothing where there is none.
"""

import json
from pathlib import Path


def write(directory: Path, port: int) -> Path:
    """Write `nats.conf` into `directory`; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "nats.conf"
    path.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"pid_file: {json.dumps(str(directory / 'nats.pid'))}\n"
        "max_pending: 8MB\n"
        'write_deadline: "2s"\n'
        "no_fast_producer_stall: true\n"
        f"jetstream: {{ store_dir: {json.dumps(str(directory / 'jetstream'))}, sync_interval: always }}\n"
    )
    return path
