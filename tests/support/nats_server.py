"""A real nats-server for tests: on a free loopback port, in a directory of its own, gone when the test is.

`with NatsServer() as server:` starts it and waits until it greets. It can be killed, stopped, frozen
(SIGSTOP) and restarted on the same port. On Linux the kernel kills it when the test process dies, however
that dies.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from transport.nats_binary import nats_server_binary

_START_TIMEOUT = 10.0
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel kills a child when the thread that started it ends; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child may not import

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return in_child


class NatsServer:
    """One nats-server process.

    Args:
        port: the client port; a free one when left out.
        user, password: one user; or `token`: one token.
        tls_cert, tls_key: its certificate (PEM); with `tls_ca` and `verify` it asks clients for theirs.
        jetstream: switch JetStream on, stored under the server's directory, each write synced.
        extra: further configuration text.
        binary: the executable, else the packaged one.
        host: another address of loopback.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        user: str = "",
        password: str = "",
        token: str = "",
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        tls_ca: Path | None = None,
        verify: bool = False,
        jetstream: bool = False,
        extra: str = "",
        binary: Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self._wanted_port = port
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="nats-test-"))
        self._tls = tls_cert is not None
        self._binary = nats_server_binary(binary)
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = _settings(user, password, token, tls_cert, tls_key, tls_ca, verify)
        if jetstream:
            self._settings.append(
                f"jetstream: {{ store_dir: {json.dumps(str(self.directory / 'js'))}, sync_interval: always }}"
            )
        self._settings.append(extra)

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:port`, or `tls://localhost:port` where it speaks TLS."""
        return f"tls://localhost:{self.port}" if self._tls else f"nats://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def configure(self, extra: str) -> None:
        """Replace the further configuration text; `restart()` or `reload()` makes it count."""
        self._settings[-1] = extra
        self._write_config()

    def start(self) -> None:
        """Start and wait until it greets a client.

        Raises:
            RuntimeError: it ended, or did not greet within 10 s; the text has its log.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            self._spawn()
            while time.monotonic() < deadline:
                if self._greets():
                    return
                if not self.running:
                    break
                time.sleep(0.005)
            taken = "address already in use" in self.log
            if self._wanted_port is None and taken and time.monotonic() < deadline:
                self.port = free_port()
                continue
            self.kill()
            raise RuntimeError(f"nats-server on port {self.port} did not start:\n{self.log}")

    def include(self, *files: Path) -> None:
        """Make these files its further configuration; the server takes their names relative to its own."""
        self.configure("\n".join(f"include {os.path.relpath(file, self.directory)}" for file in files))

    def reload(self) -> None:
        """Make it read its configuration again (SIGHUP), connections kept."""
        self._signal(signal.SIGHUP)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads have stopped

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, frozen or not, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=_START_TIMEOUT)
            self._process = None

    def stop(self) -> None:
        """End it in order (SIGTERM); after 5 s by force."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=_START_TIMEOUT)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self._wanted_port = self.port
        self.start()

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _write_config(self) -> Path:
        path = self.directory / "nats.conf"
        path.write_text("\n".join([f"listen: {self.host}:{self.port}", *self._settings]) + "\n")
        return path

    def _spawn(self) -> None:
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", self._write_config()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server is not running: start it first")
        self._process.send_signal(number)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as probe:
                return self.running and probe.recv(5).startswith(b"INFO")
        except OSError:
            return False


def _settings(
    user: str,
    password: str,
    token: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    verify: bool,
) -> list[str]:
    lines = []
    if user:
        lines.append(f"authorization: {{ user: {json.dumps(user)}, password: {json.dumps(password)} }}")
    if token:
        lines.append(f"authorization: {{ token: {json.dumps(token)} }}")
    if tls_cert is not None:
        files = {"cert_file": tls_cert, "key_file": tls_key, "ca_file": tls_ca}
        given = ", ".join(f"{name}: {json.dumps(str(path))}" for name, path in files.items() if path)
        lines.append(f"tls: {{ {given}, verify: {str(verify).lower()} }}")
    return lines


@contextlib.contextmanager
def nats_cluster(count: int) -> Iterator[list[NatsServer]]:
    """So many servers, each with a route to each other one. What is subscribed at one the others learn in a
    moment, not at once."""
    ports = [free_port() for _ in range(count)]
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports)
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                NatsServer(
                    extra=f"server_name: n{number}\n"
                    f"cluster {{ name: c, listen: 127.0.0.1:{port}, pool_size: -1, routes: [{routes}] }}"
                )
            )
            for number, port in enumerate(ports)
        ]
        deadline = time.monotonic() + _START_TIMEOUT
        while not all(server.log.count("Route connection created") >= count - 1 for server in servers):
            if time.monotonic() > deadline:
                raise RuntimeError("no routes:\n" + "\n".join(server.log for server in servers))
            time.sleep(0.01)
        yield servers
