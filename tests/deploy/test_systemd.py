"""The units: systemd finds nothing wrong with them, and what they start does under a service manager what
they count on: it is ready when it says so, it goes on saying that it lives, and SIGTERM ends it gracefully.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cli.parser import parse
from cli.resolve import Settings
from cli.settings import SETTINGS
from tests.deploy.credentials import DEPLOY, made, needs_openssl
from tests.deploy.fleet import Fleet
from tests.deploy.units import UNITS, read
from tests.support.cluster import varpulis
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.service_manager import Listener

ALL = sorted(UNITS.glob("*.service"))
OURS = [path for path in ALL if "@" in path.name]
SPECIFIERS = {"i": "x-0", "S": "/var/lib", "d": "/run/credentials/x", "H": "nats-0"}
MOST_EXPOSED = 20
"""Tenths; systemd itself calls 4.0 and below OK."""
systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


def analyzed(path: Path, tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What systemd-analyze says of a unit whose programs are taken to be installed."""
    text = path.read_text()
    for line in ("/opt/varpulis/bin/varpulis", "/usr/bin/nats-server", "/bin/kill"):
        text = text.replace(line, sys.executable)
    copy = tmp_path / path.name.replace("@", "@x-0")
    copy.write_text(text)
    return subprocess.run(
        ["systemd-analyze", *arguments, str(copy)], capture_output=True, text=True, timeout=60, check=False
    )


@systemd
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    done = analyzed(path, tmp_path, "verify", "--man=no")
    assert (done.returncode, done.stderr) == (0, "")


@systemd
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_process_may_do_little_beside_its_work(path: Path, tmp_path: Path) -> None:
    done = analyzed(path, tmp_path, "security", "--offline=true", f"--threshold={MOST_EXPOSED}")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_command_and_every_variable_mean_something_to_varpulis(path: Path) -> None:
    unit = read(path)
    _, *arguments = unit.command(SPECIFIERS)
    command, given = parse(arguments)
    assert path.name == f"varpulis-{command.name}@.service"
    assert given[f"{command.name}.id"] == "x-0"
    environ = unit.environment(SPECIFIERS)
    settings = Settings(environ={**environ, "VARPULIS_CONFIG": str(UNITS / "varpulis.toml")})
    assert not settings.unknown_variables
    for name, value in environ.items():
        if value.removeprefix("file:").startswith("/run/credentials/"):
            assert Path(value).name in unit.credentials(SPECIFIERS), name


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_secret_stands_in_a_unit_or_in_the_shared_file(path: Path) -> None:
    environ, shared = read(path).environment(SPECIFIERS), Settings(config=str(UNITS / "varpulis.toml"))
    for setting in SETTINGS:
        if setting.secret:
            assert environ.get(setting.variable, "file:").startswith("file:"), setting.key
            assert not shared.resolved(setting.key).given


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_stop_has_the_time_it_may_take(path: Path) -> None:
    from coordinator.app import STOP_TIMEOUT
    from worker.app import STOP_WAIT

    unit = read(path)
    leaving = next(setting.default for setting in SETTINGS if setting.key == "worker.leave_timeout")
    longest = STOP_TIMEOUT if "coordinator" in path.name else leaving + STOP_WAIT
    assert float(unit.one("TimeoutStopSec")) > longest + 5
    assert unit.one("Type") == "notify" and unit.one("KillMode") == "mixed"


class Machine:
    """A machine with these units, without systemd: each process with the command, environment and credentials
    of its unit, and a socket to tell how it stands."""

    def __init__(self, root: Path, fleet: Fleet, nats: NatsServer, credentials: Path) -> None:
        self.root, self.fleet, self.credentials = root, fleet, credentials
        self._open = contextlib.ExitStack()
        toml = (UNITS / "varpulis.toml").read_text()
        own = f'url = ["{nats.url}"]'
        self.config = root / "varpulis.toml"
        self.config.write_text(
            toml.replace("/etc/varpulis/", f"{credentials}/").replace(
                'url = ["tls://nats-0.example:4222", "tls://nats-1.example:4222", "tls://nats-2.example:4222"]',
                own,
            )
        )
        assert own in self.config.read_text()

    def start(self, path: Path, name: str, **more: str) -> Listener:
        unit = read(path)
        places = {"i": name, "S": str(self.root / "lib"), "d": str(self.root / f"credentials-{name}")}
        Path(places["d"]).mkdir()
        for credential, source in unit.credentials(places).items():
            copy = Path(places["d"]) / credential
            copy.write_bytes((self.credentials / Path(source).name).read_bytes())
            copy.chmod(0o400)
        listener = self._open.enter_context(Listener(self.root / f"notify-{name}"))
        micros = int(unit.one("WatchdogSec")) * 1_000_000
        environ = {**unit.environment(places), "VARPULIS_CONFIG": str(self.config), **more}
        environ |= {**listener.environ, "WATCHDOG_USEC": str(micros)}
        command = [sys.executable, "-m", "cli.main", *unit.command(places)[1:]]
        self.fleet.start(name, command, environ)
        return listener

    def close(self) -> None:
        """Listen no more."""
        self._open.close()


@needs_openssl
@pytest.mark.processes
def test_what_the_units_start_tells_the_service_manager_how_it_stands(tmp_path: Path) -> None:
    """NATS with TLS, users and permissions; one coordinator, two workers; a worker that is stopped leaves."""
    keys = made(tmp_path / "keys")
    nats = NatsServer(
        tls_cert=keys / "nats-0.pem",
        tls_key=keys / "nats-0-key.pem",
        tls_ca=keys / "ca.pem",
        verify=True,
        jetstream=True,
    )
    nats.include(DEPLOY / "nats" / "limits.conf", keys / "nats-users.conf")
    with (
        nats,
        Fleet(tmp_path, hardened=True) as fleet,
        contextlib.closing(Machine(tmp_path, fleet, nats, keys)) as machine,
    ):
        _prepare(machine, nats)
        port = free_port()
        url = f"https://localhost:{port}"
        coordinator = machine.start(
            UNITS / "varpulis-coordinator@.service",
            "coordinator-0",
            VARPULIS_COORDINATOR_MEMBERS="coordinator-0",
            VARPULIS_COORDINATOR_HTTP_PORT=str(port),
            VARPULIS_COORDINATOR_ADVERTISE_URL=url,
            VARPULIS_COORDINATOR_STREAM_REPLICAS="1",
        )
        workers = [
            machine.start(UNITS / "varpulis-worker@.service", f"worker-{n}", VARPULIS_WORKER_HTTP_PORT="0")
            for n in range(2)
        ]
        told = [_until(listener, "READY=1", fleet) for listener in (coordinator, *workers)]
        assert all(any("EXTEND_TIMEOUT_USEC=" in line for line in lines) for lines in told)
        assert any(line.startswith("STATUS=leads, term ") for line in told[0])
        assert any(line.startswith("STATUS=registered, ") for line in told[1])
        _until(coordinator, "WATCHDOG=1", fleet)

        def ask(*arguments: str) -> str:
            access = (
                "--url",
                url,
                "--tls-ca",
                str(keys / "ca.pem"),
                "--api-key-file",
                str(keys / "admin.key"),
            )
            done = varpulis(*arguments, *access, cwd=tmp_path)
            assert done.returncode == 0, f"{done.stderr}\n{fleet.logs()}"
            return done.stdout

        ask("deploy", str(DEPLOY / "examples" / "doors.vpl"))
        runs_on = _placed(ask("workers", "-o", "json"))
        (left,) = {"worker-0", "worker-1"} - {runs_on}
        assert fleet.end(runs_on, within=30) == 0
        assert {"STOPPING=1", "STATUS=stops"} <= set(workers[int(runs_on[-1])].heard())
        assert _placed(ask("workers", "-o", "json")) == left, "it was moved before its worker had gone"
        assert "Held" in ask("inject", "doors", "Door", "badge=b-17", "site=hq", "held_ms=45000")
        assert fleet.end("coordinator-0") == 0
        assert "STOPPING=1" in coordinator.heard()


def _prepare(machine: Machine, nats: NatsServer) -> None:
    """What docs/deploy.md has the operator do once."""
    keys = machine.credentials
    login = {
        "VARPULIS_CONFIG": str(machine.config),
        "VARPULIS_NATS_USER": "operator",
        "VARPULIS_NATS_PASSWORD": f"file:{keys / 'operator.password'}",
        "VARPULIS_NATS_TLS_CERT": str(keys / "operator.pem"),
        "VARPULIS_NATS_TLS_KEY": str(keys / "operator-key.pem"),
    }
    done = varpulis("checkpoints", "prepare", cwd=machine.root, env=login)
    assert done.returncode == 0, done.stderr + nats.log


def _placed(workers: str) -> str:
    """The worker that has the one pipeline there is."""
    (found,) = [each["id"] for each in msgspec.json.decode(workers)["workers"] if each["assigned_pipelines"]]
    return str(found)


def _until(listener: Listener, line: str, fleet: Fleet) -> list[str]:
    heard: list[str] = []
    deadline = time.monotonic() + 60
    while line not in heard:
        heard += listener.heard(wait=0.5)
        assert time.monotonic() < deadline, f"{line} not among {heard[-5:]}\n{fleet.logs()}"
    return heard
