"""Three nats-servers that are one cluster, for the drill that loses one of them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from transport.nats_binary import nats_server_binary

COUNT: Final = 3
_KILL_AFTER_S: Final = 2.0


class Servers:
    """`with servers(...) as them`: `url` names all; `kill` ends one, `complete` starts what is missing."""

    def __init__(self, directory: Path, first_port: int, binary: Path) -> None:
        self._directory, self._binary = directory, binary
        self._ports = [first_port + number for number in range(COUNT)]
        self._routes = [first_port + COUNT + number for number in range(COUNT)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self.url = ",".join(f"nats://127.0.0.1:{port}" for port in self._ports)

    def complete(self) -> None:
        """Start those that do not run."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number, port in enumerate(self._ports):
            if number not in self._running:
                config = self._directory / f"nats-{number}.conf"
                config.write_text(self._config(number, port))
                with (self._directory / f"nats-{number}.log").open("ab") as log:
                    self._running[number] = subprocess.Popen(
                        [str(self._binary), "-c", str(config)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )

    def kill(self, number: int) -> None:
        """kill -9 one of them."""
        server = self._running.pop(number)
        server.kill()
        server.wait(_KILL_AFTER_S)

    def stop(self) -> None:
        """End all."""
        for number in list(self._running):
            self.kill(number)

    def _config(self, number: int, port: int) -> str:
        routes = ", ".join(f'"nats://127.0.0.1:{each}"' for each in self._routes)
        return (
            f'listen: "127.0.0.1:{port}"\nserver_name: nats-{number}\n'
            'max_pending: 8MB\nwrite_deadline: "2s"\nno_fast_producer_stall: true\n'
            f'cluster {{ name: drill, listen: "127.0.0.1:{self._routes[number]}", routes: [{routes}] }}\n'
        )


@contextmanager
def servers(directory: Path, first_port: int, nats_server: str = "") -> Iterator[Servers]:
    """They run until the block ends."""
    made = Servers(directory, first_port, nats_server_binary(nats_server or None))
    try:
        made.complete()
        yield made
    finally:
        made.stop()
