"""What is examined: this machine's part of a cluster, and the cluster that the settings name.

Where they name no URL and `varpulis up` made a cluster in the data directory, that one is meant, with its
ports, its nats-server, its directories and its keys. Else it is the coordinator or worker whose settings
these are, if they are one's, and the coordinators at the URLs.
"""

import ssl
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from cli.commands.nodes import nats_config
from cli.doctor.peers import Peers
from cli.errors import CliError
from cli.invocation import Invocation
from cli.resolve import Settings
from cli.up import record
from cli.up.record import Record
from transport.config import NatsConfig
from transport.errors import ConfigError

SECTIONS: Final = ("coordinator", "worker")


@dataclass(frozen=True, slots=True)
class Place:
    """A data directory that belongs to a process; `cluster`: of which, where that is known."""

    role: str
    id: str
    path: Path
    cluster: str | None


@dataclass
class Site:
    """Everything that checks look at. What cannot be had is None or empty, and its reason is in `problems`.

    `problems`: by subject (`record`, `key`, `tls`, `nats`).
    """

    call: Invocation
    problems: dict[str, Exception] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record: Record | None = self._record()
        self.urls: list[str] = self._urls()
        self.key: str = self._key()
        self.tls: ssl.SSLContext | None = self._tls()
        self.nats: NatsConfig | None = self._nats()
        self.peers = Peers(self.urls, self.key, self.tls)

    @property
    def settings(self) -> Settings:
        return self.call.settings

    @property
    def names_a_cluster(self) -> bool:
        """Somebody said where it is, or made it here; else it may well be that there is none."""
        return self.record is not None or bool(self.settings["client.url"])

    @cached_property
    def rests(self) -> bool:
        """The cluster of the data directory is meant, and all of it is stopped."""
        return self.record is not None and not self.record.running

    @property
    def roles(self) -> list[str]:
        """Of which processes these are the settings."""
        return [section for section in SECTIONS if self.settings[f"{section}.id"]]

    @cached_property
    def places(self) -> list[Place]:
        """The data directories on this machine that are known."""
        given = self.settings.resolved("cluster.id").given
        own = [
            Place(
                role,
                self.settings[f"{role}.id"],
                self.call.directory(role, self.settings[f"{role}.id"]),
                self.settings["cluster.id"] if given else None,
            )
            for role in self.roles
        ]
        if self.record is None:
            return own
        ran = [process for process in self.record.processes if process.role in SECTIONS]
        return own + [
            Place(process.role, process.id, self.call.data_dir / process.id, self.record.cluster_id)
            for process in ran
        ]

    def _record(self) -> Record | None:
        if self.settings["client.url"]:
            return None
        try:
            return record.load(self.call.data_dir)
        except CliError as error:
            self.problems["record"] = error
            return None

    def _urls(self) -> list[str]:
        """Of all coordinators, those of the data directory that do not run, too."""
        if self.record is None:
            return self.call.urls()
        return [
            process.url for process in self.record.processes if process.role == "coordinator" and process.url
        ]

    def _key(self) -> str:
        try:
            return self.call.api_key()
        except CliError as error:
            self.problems["key"] = error
            return ""

    def _tls(self) -> ssl.SSLContext | None:
        try:
            return self.call.tls(self.urls)
        except ConfigError as error:
            self.problems["tls"] = error
            return None

    def _nats(self) -> NatsConfig | None:
        """How NATS is reached; a worker that speaks REST, and a cluster elsewhere of which nothing is said
        but URLs, reach none from here.
        """
        if self.record is not None and not self.settings.resolved("nats.url").given:
            return NatsConfig(servers=(f"nats://127.0.0.1:{self.record.nats_port}",), name="varpulis-doctor")
        try:
            return nats_config(self.settings, self.settings["nats.user"] or "varpulis-doctor")
        except ConfigError as error:
            self.problems["nats"] = error
            return None
