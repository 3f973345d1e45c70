"""The pods that a StatefulSet or a Job of the chart would make, as processes here (see `place`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.dockerfile import stages
from tests.deploy.fleet import Fleet
from tests.deploy.place import Place

Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """One pod of one container."""

    name: str
    spec: Document

    @property
    def container(self) -> Document:
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def environment(self) -> dict[str, str]:
        """As Kubernetes makes it: `$(NAME)` stands for a variable that was defined before."""
        found: dict[str, str] = {}
        for variable in self.container["env"]:
            if "valueFrom" in variable:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
                found[variable["name"]] = self.name
            else:
                found[variable["name"]] = re.sub(
                    r"\$\((\w+)\)", lambda match: found[match[1]], variable["value"]
                )
        return found

    @property
    def command(self) -> list[str]:
        """The image's entrypoint and the container's arguments."""
        assert "command" not in self.container
        return [*stages()[-1].words("ENTRYPOINT"), *self.container["args"]]

    def mounts(self, secrets: Mapping[str, Mapping[str, Path]]) -> dict[str, Path | None]:
        """Where which file is, given the files of each secret by their keys; None: an empty directory."""
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        found: dict[str, Path | None] = {}
        for mount in self.container["volumeMounts"]:
            secret = volumes.get(mount["name"], {}).get("secret")  # others, and claims, are directories
            if secret is None:
                found[mount["mountPath"]] = None
                continue
            files = secrets[secret["secretName"]]
            chosen = {item["path"]: files[item["key"]] for item in secret.get("items", [])} or files
            found |= {f"{mount['mountPath']}/{name}": path for name, path in chosen.items()}
        return found


def pods(document: Document) -> list[Pod]:
    """Those of a StatefulSet, by ordinal, or the one of a Job."""
    name, spec = document["metadata"]["name"], document["spec"]
    if document["kind"] == "Job":
        return [Pod(name, spec["template"]["spec"])]
    return [Pod(f"{name}-{number}", spec["template"]["spec"]) for number in range(spec["replicas"])]


class Node:
    """Runs pods.

    Args:
        names: DNS names that pods use, and the address each stands for; a pod's own by its name.
        secrets: the files of each secret, by their keys.
    """

    def __init__(
        self,
        directory: Path,
        fleet: Fleet,
        names: dict[str, str],
        secrets: Mapping[str, Mapping[str, Path]],
    ) -> None:
        self.directory, self.fleet, self.names, self.secrets = directory, fleet, names, secrets
        self._places: dict[str, Place] = {}

    def start(self, pod: Pod) -> None:
        """Start one that goes on running."""
        place = self._place(pod)
        self.fleet.start(pod.name, place.command(pod.command), place.environment(pod.environment))

    def run(self, pod: Pod, words: list[str] | None = None) -> str:
        """Run a pod to its end, or a command in it; what it said."""
        done = self._place(pod).run(words or pod.command, pod.environment)
        assert done.returncode == 0, f"{pod.name}: {done.stderr}\n{self.fleet.logs()}"
        return done.stdout

    def _place(self, pod: Pod) -> Place:
        if pod.name not in self._places:
            mounts = pod.mounts(self.secrets)
            paths = sorted({mount["mountPath"] for mount in pod.container["volumeMounts"]})
            address = self.names.get(pod.name, "127.0.0.1")
            place = self._places[pod.name] = Place(self.directory / pod.name, address, self.names, paths)
            for target, source in mounts.items():
                place.mount(target, source)
        return self._places[pod.name]
