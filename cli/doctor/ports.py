"""Ports on this machine: free, or held by the process that should."""

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.site import Site
from cli.up.record import Process

_EVERYWHERE = {"": "0.0.0.0"}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port, as far as the system tells us; `pid` 0: somebody."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else "a process of another user"


def ports(site: Site) -> Iterator[Finding]:
    """Those of the processes of the data directory, and of the one whose settings these are."""
    looked = False
    if site.record is not None:
        some = bool(site.record.running)
        for process in site.record.processes:
            if process.port:
                looked = True
                yield _recorded(process, some_run=some)
    for role in site.roles:
        looked = True
        yield _own(site, role)
    if not looked:
        yield skipped("ports", "no coordinator or worker of this machine is known")


def _recorded(process: Process, *, some_run: bool) -> Finding:
    about, holder = f"{process.id}, port {process.port}", _holder("127.0.0.1", process.port)
    again = "`varpulis up --detach` starts what is missing"
    if process.running:
        if holder is None:
            return fault(
                about, f"pid {process.pid} runs and does not listen", f"see its log, or end it: {again}"
            )
        if holder.pid and holder.pid != process.pid:
            return fault(about, f"is held by {holder}", "end that process, or take other ports")
        return ok(about, f"held by {process.id} (pid {process.pid})")
    if holder is not None:
        return fault(
            about,
            f"{process.id} does not run, and {holder} holds its port",
            "end that process, or `varpulis up --http-port` (--nats-port) with another",
        )
    if some_run and process.role != "generator":
        return fault(about, f"{process.id} does not run, though others of its cluster do", again)
    return ok(about, "free")


def _own(site: Site, role: str) -> Finding:
    settings = site.settings
    name, port = settings[f"{role}.id"], settings[f"{role}.http_port"]
    about = f"{role} {name}, port {port}"
    if not port:
        return ok(about, "it takes any free port")
    host = settings[f"{role}.http_host"]
    try:
        holder = _holder(host, port)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return fault(about, f"{host}:{port} is not for us: {error.strerror}", "take a port above 1023")
        return fault(
            about,
            f"cannot listen on {host}: {error.strerror}",
            f"give {role}.http_host an address of this host",
        )
    if holder is None:
        return ok(about, "free")
    peers = site.peers.coordinators if role == "coordinator" else site.peers.workers
    key = "node_id" if role == "coordinator" else "worker_id"
    if any((peer.health or {}).get(key) == name and peer.url.endswith(f":{port}") for peer in peers):
        return ok(about, f"held by {name} itself: {holder}")
    if holder.pid and "varpulis" in _words(holder.pid) and name in _words(holder.pid):
        return ok(about, f"held by {name} itself: {holder}")
    return warning(
        about, f"held by {holder}", f"if that is not {name}: end it, or give another {role}.http_port"
    )


def _words(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _holder(host: str, port: int) -> Holder | None:
    """Who listens there; None: nobody.

    Raises:
        OSError: the address is none of ours, or the port not for us.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_EVERYWHERE.get(host, host), port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return None
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr[1:2] == (port,)
                and connection.pid
            ):
                return Holder(connection.pid, psutil.Process(connection.pid).name())
    except (psutil.Error, OSError):
        pass
    return Holder(0, "")
