"""The topology of the compose file with all of its services up, and what a visitor sees of it."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.deploy.compose import Topology
from tests.support.cluster import poll
from transport.config import NatsConfig

NATS = ("nats-0", "nats-1", "nats-2")
COORDINATORS = ("coordinator-0", "coordinator-1", "coordinator-2")
WORKERS = ("worker-0", "worker-1")
PEOPLE = ("operator", "observer", "client", "system")


class Cluster:
    """Args:
    topology: nothing of it runs yet.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology, self.fleet = topology, topology.fleet
        self.ca = topology.secrets / "ca.pem"

    def up(self) -> None:
        """In the order of `depends_on`, each tier healthy before the next."""
        self.topology.start(*NATS)
        self.healthy(*NATS)
        self.topology.start(*COORDINATORS)
        self.topology.run("prepare")
        self.topology.start(*WORKERS)
        self.healthy(*COORDINATORS, *WORKERS)

    def healthy(self, *names: str) -> None:
        """Wait until the health checks of these services say so."""
        waiting = list(names)

        def checked() -> bool:
            waiting[:] = [name for name in waiting if not self.topology.healthy(name)]
            for name in waiting:
                assert self.fleet.runs(name), f"{name} ended:\n{self.fleet.log(name)[-3000:]}"
            return not waiting

        poll(checked, timeout=60, what=f"all of {', '.join(names)} are healthy\n{self.fleet.logs()}")

    def ask(self, *arguments: str) -> str:
        """What a command says, with the admin's key, over TLS, to whichever coordinator answers."""
        urls = ",".join(self.topology.url(name) for name in COORDINATORS)
        access = ("--url", urls, "--tls-ca", str(self.ca), "--timeout", "30")
        key = ("--api-key-file", str(self.topology.secrets / "admin.key"))
        done = self.topology.visitor.run(("varpulis", *arguments, *access, *key), {})
        assert done.returncode == 0, f"{done.stderr}\n{self.fleet.logs()}"
        return done.stdout

    def leader(self) -> str:
        found: str = json.loads(self.ask("raft", "status", "-o", "json"))["leader_id"]
        return found

    def runs_on(self) -> dict[str, list[str]]:
        """What is assigned to each worker."""
        workers = json.loads(self.ask("workers", "-o", "json"))["workers"]
        return {each["id"]: each["assigned_pipelines"] for each in workers}


def login(person: str, secrets: Path, hosts: Iterable[str]) -> NatsConfig:
    """By which one of `PEOPLE` reaches the nats-servers at `hosts`."""
    return NatsConfig(
        servers=tuple(f"tls://{host}:4222" for host in hosts),
        user=person,
        password=(secrets / f"{person}.password").read_text().strip(),
        tls_ca=str(secrets / "ca.pem"),
        tls_cert=str(secrets / f"{person}.pem"),
        tls_key=str(secrets / f"{person}-key.pem"),
        name=person,
    )
