"""`docker-compose.cluster.yml`, and its services as processes of this machine (see `place`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.credentials import DEPLOY
from tests.deploy.dockerfile import stages
from tests.deploy.fleet import Fleet
from tests.deploy.namespaces import Network
from tests.deploy.place import Place

FILE = DEPLOY / "docker" / "docker-compose.cluster.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_IN_CONTAINER = ("/run/secrets", "/etc/nats", "/etc/prometheus", "/var/lib/varpulis", "/prometheus")
_ENTRYPOINTS = {"prom/prometheus": ["prometheus", "--web.listen-address=0.0.0.0:9090"]}
"""Of images that are not ours; the address is the default."""
VISITOR = "visitor"
"""Who has a place beside the services: clients run there."""


def document() -> dict[str, Any]:
    """The file, anchors merged, variables at their defaults."""
    text = _VARIABLE.sub(lambda match: match["default"] or "", FILE.read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass(frozen=True)
class Service:
    """One service. `mounts`: path in the container and what lies there, None for a volume."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    mounts: dict[str, Path | None]
    health: list[str]
    spec: dict[str, Any]


def services() -> dict[str, Service]:
    """All of them, as an engine would make them from the file and the image."""
    loaded = document()
    return {name: _service(name, spec, loaded["secrets"]) for name, spec in loaded["services"].items()}


def _service(name: str, spec: dict[str, Any], secrets: dict[str, Any]) -> Service:
    image = stages()[-1]
    ours = "build" in spec
    foreign = _ENTRYPOINTS.get(spec["image"].partition(":")[0], [])
    entrypoint = spec.get("entrypoint", image.words("ENTRYPOINT") if ours else foreign)
    mounts: dict[str, Path | None] = {}
    for volume in spec.get("volumes", []):
        source, target = str(volume).split(":")[:2]
        mounts[target] = (FILE.parent / source).resolve() if source.startswith(".") else None
    for secret in spec.get("secrets", []):
        given = secret if isinstance(secret, dict) else {"source": secret, "target": secret}
        path = FILE.parent / secrets[given["source"]]["file"]
        mounts[f"/run/secrets/{given['target']}"] = path.resolve()
    check = spec.get("healthcheck", {})
    health = check.get("test", ["CMD", *image.words("HEALTHCHECK")] if ours else [])
    return Service(
        name=name,
        image=spec["image"],
        command=[*entrypoint, *spec.get("command", [])],
        environment={key: str(value) for key, value in spec.get("environment", {}).items()},
        mounts=mounts,
        health=[] if check.get("disable") else list(health[1:]),
        spec=spec,
    )


class Topology:
    """The services of the file as processes, and a place for a visitor, who is none of them.

    Args:
        directory: below it each service has its own.
        secrets: takes the place of the file's `./secrets`.
        hosts: by what the visitor reaches each service: addresses, as `place.loopback` gives them; or in a
            network their names.
        network: they run in its namespaces, which `namespaces.Network` made for them and for `VISITOR`.
    """

    def __init__(
        self,
        directory: Path,
        fleet: Fleet,
        secrets: Path,
        hosts: dict[str, str],
        network: Network | None = None,
    ) -> None:
        self.fleet, self.secrets, self.hosts = fleet, secrets, hosts
        self.services = services()

        def place(name: str, paths: Sequence[str]) -> Place:
            if network is not None:
                return Place(directory / name, "", {}, paths, network.enter(name))
            return Place(directory / name, hosts.get(name, ""), hosts, paths)

        self.visitor = place(VISITOR, ())
        self.visitor.root.mkdir(parents=True)
        self.places = {name: place(name, _IN_CONTAINER) for name in self.services}
        for name, service in self.services.items():
            for target, source in service.mounts.items():
                secret = source is not None and source.parent == FILE.parent / "secrets"
                self.places[name].mount(target, secrets / source.name if source and secret else source)

    def start(self, *names: str) -> None:
        """Start services that go on running."""
        for name in names:
            service, place = self.services[name], self.places[name]
            self.fleet.start(name, place.command(service.command), place.environment(service.environment))

    def run(self, name: str) -> None:
        """Run one that ends, to its end."""
        service = self.services[name]
        done = self.places[name].run(service.command, service.environment)
        assert done.returncode == 0, f"{name}: {done.stderr}\n{self.fleet.logs()}"

    def healthy(self, name: str) -> bool:
        """Whether its health check, run beside it, says so."""
        service = self.services[name]
        return self.places[name].run(service.health, service.environment).returncode == 0

    def url(self, name: str) -> str:
        """Of a coordinator, for the visitor."""
        return f"https://{self.hosts[name]}:9100"
