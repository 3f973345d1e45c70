"""The nats-server binary, the event loop, and the server that tests use."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.loop import run
from transport.nats_binary import NatsServerNotFound, nats_server_binary


def test_the_packaged_nats_server_is_found_and_runs() -> None:
    path = nats_server_binary()
    assert path.is_absolute()
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert "nats-server" in output.stdout


def test_an_explicit_path_wins_and_must_exist(tmp_path: Path) -> None:
    own = tmp_path / "my-nats"
    own.touch()
    assert nats_server_binary(own) == own
    with pytest.raises(NatsServerNotFound, match="missing"):
        nats_server_binary(tmp_path / "missing")


def test_without_the_package_path_is_searched_and_then_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_package(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", no_package)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NatsServerNotFound, match="--nats-server"):
        nats_server_binary()
    on_path = tmp_path / "nats-server"
    on_path.touch(mode=0o755)
    assert nats_server_binary() == on_path


def test_run_returns_the_exit_code_of_main() -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return 3

    assert run(main()) == 3


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
def test_run_uses_uvloop_and_falls_back_to_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loop_is_uvloop() -> int:
        return int("uvloop" in type(asyncio.get_running_loop()).__module__)

    assert run(loop_is_uvloop()) == 1
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(loop_is_uvloop()) == 0


def test_a_server_that_cannot_start_is_an_error_with_its_log() -> None:
    server = NatsServer(extra="no_such_setting: {")
    try:
        with pytest.raises(RuntimeError, match="Parse error"):
            server.start()
    finally:
        server.remove()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it with its parent")
async def test_no_server_survives_a_test_run_that_was_killed() -> None:
    program = (
        "from tests.support.nats_server import NatsServer; import sys\n"
        "server = NatsServer(); server.start()\n"
        "print(server._process.pid, server.directory, flush=True); sys.stdin.read()"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    pid, directory = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().split()
    os.kill(int(pid), 0)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    await until(lambda: not _alive(int(pid)))
    shutil.rmtree(directory)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
