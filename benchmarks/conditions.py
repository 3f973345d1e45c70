"""What a figure depends on: printed beside every figure, so that two of them can be compared honestly."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

from transport.nats_binary import nats_server_binary

_PACKAGES = ("nats-py", "pysyncobj", "uvloop", "orjson", "msgspec", "litestar")


def conditions() -> dict[str, Any]:
    """Machine, versions and load average at the start of a run."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "nats_server": _nats_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _nats_version() -> str:
    output = subprocess.run(
        [str(nats_server_binary()), "--version"], capture_output=True, text=True, timeout=10, check=True
    )
    return output.stdout.strip()
