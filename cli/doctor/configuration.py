"""The settings: values, contradictions, files that they name, and who could listen in.

Where they are a coordinator's or a worker's, its own configuration is made of them, as a start would; so
whatever a start would refuse is found here.
"""

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cli.commands.nodes import coordinator_config, worker_config
from cli.doctor.findings import Finding, fault, judged, ok, skipped, warning
from cli.doctor.site import Site
from cli.errors import CliError
from cli.settings import SETTINGS
from transport.errors import ConfigError
from transport.http_client import is_loopback
from transport.keyring import KeyRing
from transport.tls import client_context

_MAKE: Final[dict[str, Callable[[Any], object]]] = {
    "coordinator": coordinator_config,
    "worker": worker_config,
}
_WITH_TLS: Final = ("nats", "coordinator", "worker", "client")


def configuration(site: Site) -> Iterator[Finding]:
    """Unknown names, wrong values, contradictions."""
    settings = site.settings
    for text in settings.faults:
        yield judged("settings", CliError(text))
    for name in settings.unknown_variables:
        close = difflib.get_close_matches(name, [setting.variable for setting in SETTINGS], n=1)
        hint = f"write {close[0]}, or unset it" if close else "unset it: `varpulis config show` lists all"
        yield warning(name, "is set but means nothing", hint)
    for what in ("record", "key", "tls", "nats"):
        if what in site.problems:
            yield judged(what, site.problems[what])
    yield from _identity(site)
    yield from _tls_files(site)
    yield from _processes(site)
    given = sum(settings.resolved(setting.key).given for setting in SETTINGS)
    yield ok("settings", f"{given} given, {f'some in {settings.file}' if settings.file else 'no file'}")


def _identity(site: Site) -> Iterator[Finding]:
    """Keys: one of two, over what, and whether the file of the cluster's is one."""
    settings = site.settings
    for section in ("client", "worker"):
        if settings[f"{section}.api_key"] and settings[f"{section}.api_key_file"]:
            yield warning(
                f"{section}.api_key",
                f"is given, and {section}.api_key_file too, which counts",
                "give one of both",
            )
    if len(set(settings["client.url"] or ())) < len(settings["client.url"] or ()):
        yield warning("client.url", "holds an address twice", "name each coordinator once")
    for url in site.urls:
        host = url.partition("//")[2].rpartition(":")[0].strip("[]")
        if site.key and url.startswith("http://") and not is_loopback(host):
            yield warning(url, "our key goes there in the clear", "use https, or a tunnel that encrypts")
    if settings["cluster.key_file"]:
        try:
            ring = KeyRing(Path(settings["cluster.key_file"]).expanduser())
            yield ok("cluster.key_file", f"{ring.signing.id} signs, {len(ring.keys)} accepted")
        except ConfigError as error:
            yield judged("cluster.key_file", error)


def _tls_files(site: Site) -> Iterator[Finding]:
    """Each certificate has its key and the other way round, and both can be loaded."""
    settings = site.settings
    for section in _WITH_TLS:
        cert, key = settings[f"{section}.tls_cert"], settings[f"{section}.tls_key"]
        ca = settings[f"{section}.tls_ca"]
        if bool(cert) != bool(key):
            given, missing = ("tls_cert", "tls_key") if cert else ("tls_key", "tls_cert")
            yield fault(f"[{section}]", f"{given} is given without {missing}", "give both or neither")
        elif (cert or ca) and not (section == "client" and "tls" in site.problems):
            try:
                client_context(ca=ca, cert=cert, key=key)
                yield ok(f"[{section}]", "its TLS files can be loaded")
            except ConfigError as error:
                yield judged(f"[{section}]", error)


def _processes(site: Site) -> Iterator[Finding]:
    settings = site.settings
    if not site.roles and site.record is None:
        yield skipped("processes", "these are no settings of a coordinator or worker: no id is given")
    for role in site.roles:
        about = f"{role} {settings[f'{role}.id']}"
        try:
            _MAKE[role](site.call)
        except (CliError, ConfigError) as error:
            yield judged(about, error)
            continue
        yield ok(about, "could start with these settings")
        yield from _exposure(site, role, about)


def _exposure(site: Site, role: str, about: str) -> Iterator[Finding]:
    """What a start lets pass because somebody said so, and is worth a second look."""
    settings = site.settings
    host = settings[f"{role}.http_host"]
    if settings[f"{role}.insecure"] and not is_loopback(host):
        yield warning(
            about,
            f"listens on {host} with insecure on: whoever reaches it may read keys, or needs none",
            "give tls_cert and tls_key, or be sure that a mesh encrypts and the network is closed",
        )
    unguarded = settings["coordinator.require_keys"] and not settings["coordinator.admin_key_file"]
    if role == "coordinator" and unguarded:
        yield warning(
            about,
            "asks for keys and has no admin_key_file: before there are keys in the state nobody gets in",
            "give --admin-key-file at the first start (`varpulis key new FILE`)",
        )
    if settings["cluster.key_file"] and settings["cluster.allow_unsigned"]:
        yield warning(
            about,
            "has a cluster key and takes messages that are not signed",
            "switch allow_unsigned off as soon as all workers sign",
        )
