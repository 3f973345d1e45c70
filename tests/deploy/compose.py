"""`docker-compose.cluster.yml`, and its services as processes of this machine.

A container has a name, an address and a file system of its own. Here a service has an address of its own as
well, on loopback, so every port stays what it is, and a directory of its own, in which lies what is mounted,
where it is mounted. What names the one or the other (settings, command lines, files) is rewritten:
`nats-0:4222` becomes `127.x.y.1:4222`, `/run/secrets` becomes `DIRECTORY/run/secrets`. Nothing else differs
from the file.
"""

import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.credentials import DEPLOY
from tests.deploy.dockerfile import stages
from tests.deploy.fleet import Fleet
from tests.support.cluster import environment
from transport.nats_binary import nats_server_binary

FILE = DEPLOY / "docker" / "docker-compose.cluster.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_IN_CONTAINER = ("/run/secrets", "/etc/nats", "/etc/prometheus", "/var/lib/varpulis", "/prometheus")
_CONFIGURATION = (".conf", ".yml")
_ENTRYPOINTS = {"prom/prometheus": ["prometheus", "--web.listen-address=0.0.0.0:9090"]}
"""Of images that are not ours; the address is the default."""


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
    """The services of the file as processes.

    Args:
        directory: below it each service has its own.
        secrets: takes the place of the file's `./secrets`.
        addresses: one for each service, as `loopback()` gives them.
    """

    def __init__(self, directory: Path, fleet: Fleet, secrets: Path, addresses: dict[str, str]) -> None:
        self.directory, self.fleet, self.secrets, self.addresses = directory, fleet, secrets, addresses
        self.services = services()
        for service in self.services.values():
            self._mount(service)

    def start(self, *names: str) -> None:
        """Start services that go on running."""
        for name in names:
            self.fleet.start(name, self._command(name), self._environment(name))

    def run(self, name: str) -> None:
        """Run one that ends, to its end."""
        done = self._done(name, self._command(name))
        assert done.returncode == 0, f"{name}: {done.stderr}\n{self.fleet.logs()}"

    def healthy(self, name: str) -> bool:
        """Whether its health check, run beside it, says so."""
        service = self.services[name]
        words = [self._here(service, word) for word in service.health]
        return self._done(name, [*_program(words[0]), *words[1:]]).returncode == 0

    def url(self, name: str) -> str:
        """Of a coordinator, for a client."""
        return f"https://{self.addresses[name]}:9100"

    def _done(self, name: str, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env=environment(self._environment(name)),
            cwd=self._root(self.services[name]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _command(self, name: str) -> list[str]:
        service = self.services[name]
        program, *arguments = service.command
        return [*_program(program), *(self._here(service, word) for word in arguments)]

    def _environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        return {key: self._here(service, value) for key, value in service.environment.items()}

    def _root(self, service: Service) -> Path:
        return self.directory / service.name

    def _mount(self, service: Service) -> None:
        for target, source in service.mounts.items():
            place = self._root(service) / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if source is None:
                place.mkdir(exist_ok=True)
                continue
            source = self.secrets / source.name if source.parent == FILE.parent / "secrets" else source
            if source.suffix in _CONFIGURATION and source.is_file():
                place.write_text(self._here(service, source.read_text()))
                place.chmod(0o440)
            elif source.is_file():
                shutil.copy(source, place)

    def _here(self, service: Service, text: str) -> str:
        """A setting, word or file of a service, with addresses and paths as they are on this machine."""
        own = self.addresses[service.name]
        for name, address in self.addresses.items():
            text = re.sub(rf"(?<![\w-]){name}:(?=\d)", f"{address}:", text)
        text = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", own, text)
        for path in _IN_CONTAINER:
            text = re.sub(rf"(?<![\w./-]){path}(?=[/\s\"',]|$)", f"{self._root(service)}{path}", text)
        return text


def loopback(names: list[str]) -> dict[str, str]:
    """An address for each name in a network of loopback that this run has to itself, most likely."""
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
    return {name: f"{network}.{number}" for number, name in enumerate(names, start=1)}


def _program(name: str) -> list[str]:
    if name == "varpulis":
        return [sys.executable, "-m", "cli.main"]
    if name == "nats-server":
        return [str(nats_server_binary())]
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return [found]
