"""Files that hold secrets: there, readable for us, and for nobody else who happens to have an account."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.site import Site
from cli.settings import SETTINGS
from cli.up import keys

_FILES: Final = (
    "cluster.key_file",
    "coordinator.admin_key_file",
    "coordinator.worker_key_file",
    "coordinator.tls_key",
    "worker.api_key_file",
    "worker.worker_key_file",
    "worker.tls_key",
    "client.api_key_file",
    "client.tls_key",
    "nats.creds",
    "nats.tls_key",
)
_SEED_BEGINS: Final = "SU"
_SOURCE: Final = "file:"
_ELSEWHERE: Final = (_SOURCE, "env:")


def secrets(site: Site) -> Iterator[Finding]:
    """Each file of a secret that the settings name, or that `varpulis up` made."""
    files = list(_named(site))
    if not files:
        yield skipped("secret files", "the settings name none")
    seen: set[Path] = set()
    for about, path in files:
        if path not in seen:
            seen.add(path)
            yield _look(about, path)


def _named(site: Site) -> Iterator[tuple[str, Path]]:
    settings = site.settings
    for key in _FILES:
        if settings[key]:
            yield key, Path(settings[key].removeprefix(_SOURCE)).expanduser()
    seed = settings["nats.nkey_seed"]
    if seed and not seed.startswith((_SEED_BEGINS, "env:")):
        yield "nats.nkey_seed", Path(seed.removeprefix(_SOURCE)).expanduser()
    for key in ("nats.password", "nats.token"):
        if settings[key].startswith(_SOURCE):
            yield key, Path(settings[key].removeprefix(_SOURCE)).expanduser()
    if settings.file and any(_in_the_file(site, setting.key) for setting in SETTINGS if setting.secret):
        yield "the configuration, which holds a secret", settings.file
    if site.record is not None:
        for make in (keys.cluster, keys.admin, keys.worker):
            path = make(site.call.data_dir)
            if path.exists():
                yield f"{path.stem} key of the cluster", path


def _in_the_file(site: Site, key: str) -> bool:
    """The secret itself stands in the configuration file, not where to find it."""
    value, origin = site.settings[key], site.settings.resolved(key).origin
    return bool(value) and origin.startswith(f"{site.settings.file}:") and not value.startswith(_ELSEWHERE)


def _look(about: str, path: Path) -> Finding:
    try:
        found = path.stat()
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return fault(about, f"{path} is not there", "correct the setting, or put the file there")
    except OSError as error:
        return fault(about, f"{path} cannot be read: {error.strerror}", f"chown it to {os.geteuid()}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o007:
        return fault(
            about,
            f"{path} has mode {mode:04o}: every user of this machine can read it",
            f"chmod 600 {path}, and make a new secret if others have accounts here",
        )
    if found.st_uid not in (os.geteuid(), 0):
        return warning(
            about,
            f"{path} belongs to uid {found.st_uid}, who can read and change it",
            f"chown it to {os.geteuid()}",
        )
    if mode & 0o020:
        return warning(about, f"{path} has mode {mode:04o}: its group can change it", f"chmod g-w {path}")
    return ok(about, f"{path} has mode {mode:04o}")
