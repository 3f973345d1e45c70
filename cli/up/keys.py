"""The keys of a cluster that `up` runs: files in `keys/` of its data directory that only its owner can read.

The cluster key is made with every new cluster: secrets in its state are sealed with it. API keys are made
where somebody asked for them (`--require-keys`), since a cluster that only this machine reaches is open
without; they are never shown but for the admin's, once, when it is made. Only then is anything signed: to an
open cluster everybody on this machine may add workers and coordinators that have no key.
"""

import secrets
from pathlib import Path

from cli.errors import CliError
from cli.up.record import Record
from transport.keyring import new_key, read_secret, write_secret


def admin(data_dir: Path) -> Path:
    """The admin's API key, where there are keys."""
    return data_dir / "keys" / "admin.key"


def worker(data_dir: Path) -> Path:
    """The API key that the workers register with."""
    return data_dir / "keys" / "worker.key"


def cluster(data_dir: Path) -> Path:
    """The cluster key."""
    return data_dir / "keys" / "cluster.key"


def of(data_dir: Path, record: Record) -> str:
    """The admin's API key of a cluster that asks for keys; else empty.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_secret(admin(data_dir), "api_key_file") if record.require_keys else ""


def make(data_dir: Path, *, api_keys: bool) -> str | None:
    """Make what is missing; the admin's key when it was made now.

    Raises:
        CliError: the directory cannot be written.
    """
    made = None
    try:
        (data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
        if not cluster(data_dir).exists():
            write_secret(cluster(data_dir), new_key("up"))
        if api_keys and not worker(data_dir).exists():
            write_secret(worker(data_dir), _api_key())
        if api_keys and not admin(data_dir).exists():
            made = _api_key()
            write_secret(admin(data_dir), made)
    except OSError as error:
        where = data_dir / "keys"
        raise CliError(f"cannot make keys in {where}: {error.strerror}: give another --data-dir") from None
    return made.strip() if made else None


def _api_key() -> str:
    return f"vk_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}\n"
