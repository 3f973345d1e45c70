"""What a figure depends on: printed beside every figure, so that two of them can be compared honestly."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from transport.nats_binary import nats_server_binary

_PACKAGES = ("nats-py", "pysyncobj", "uvloop", "orjson", "msgspec", "litestar")
_MOUNTS = Path("/proc/self/mounts")
_BLOCK_DEVICES = Path("/sys/class/block")


def conditions() -> dict[str, Any]:
    """Machine, versions and load average at the start of a run."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "disk": disk_of(Path(tempfile.gettempdir())),
        "nats_server": _version(str(nats_server_binary())),
        "etcd": _version("etcd"),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def disk_of(directory: Path) -> dict[str, Any]:
    """Where benchmarks put their data: directory, device, file system; on Linux only."""
    found: dict[str, Any] = {"directory": str(directory)}
    if not _MOUNTS.exists():
        return found
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    own = [mount for mount in mounts if directory.resolve().is_relative_to(mount[1])]
    if own:
        device, _, filesystem, options, *_ = max(own, key=lambda mount: len(mount[1]))
        found |= {"device": device, "filesystem": filesystem, "options": options}
        rotational = _BLOCK_DEVICES / Path(device).name / "queue" / "rotational"
        if rotational.exists():
            found["rotational"] = rotational.read_text().strip() == "1"
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _version(program: str) -> str | None:
    """The first line a program tells of its version; None when it is not there."""
    if shutil.which(program) is None:
        return None
    output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    return output.stdout.partition("\n")[0].strip()
