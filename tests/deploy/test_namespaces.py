"""Machines made of network namespaces are what `namespaces` says, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.namespaces import Network, why_not
from tests.support.cluster import environment, poll

_LISTEN = """
import socket
listener = socket.create_server(("0.0.0.0", 4222))
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"heard")
"""
_CONNECT = """
import socket, sys
print(socket.create_connection((sys.argv[1], 4222), timeout=0.5).recv(100).decode())
"""
_MAKE = """
import sys, time
from pathlib import Path
from tests.deploy.namespaces import Network
with Network(Path(sys.argv[1]), ["east", "west"]) as network:
    print(*network.enter("east"), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def allowed() -> None:
    if reason := why_not():
        pytest.skip(f"no network namespaces here: {reason}")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path, ["east", "west"]) as made:
        yield made


def listens(network: Network, name: str) -> "subprocess.Popen[str]":
    listener = subprocess.Popen(
        [*network.enter(name), sys.executable, "-c", _LISTEN], stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout is not None and listener.stdout.readline() == "listens\n"
    return listener


def connect(network: Network, name: str, to: str) -> str:
    """What who connects from there hears, or the error that ends it."""
    words = [*network.enter(name), sys.executable, "-c", _CONNECT, to]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout or done.stderr).splitlines()[-1]


def test_a_machine_is_reached_by_its_name_and_by_itself_until_its_cable_is_pulled(network: Network) -> None:
    with listens(network, "east") as listener:
        assert connect(network, "west", "east") == "heard"
        assert connect(network, "east", "127.0.0.1") == "heard"
        assert "refused" in connect(network, "west", "127.0.0.1")
        network.pull("east")
        assert connect(network, "west", "east").startswith("TimeoutError")
        assert connect(network, "east", "127.0.0.1") == "heard"
        network.plug("east")
        poll(lambda: connect(network, "west", "east") == "heard", what="the cable carries again")
        listener.kill()


def test_two_networks_with_the_same_names_do_not_meet_nor_does_ours_know_of_them(
    network: Network, tmp_path: Path
) -> None:
    (tmp_path / "another").mkdir()
    with Network(tmp_path / "another", ["east", "west"]) as another, listens(another, "east") as listener:
        assert connect(another, "west", "east") == "heard"
        assert "refused" in connect(network, "west", "east")
        assert not {"east", "west", "bridge"} & {name for _, name in socket.if_nameindex()}
        assert "east" not in Path("/etc/hosts").read_text()
        listener.kill()


def test_who_is_killed_leaves_no_machine_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MAKE, tmp_path], env=environment(), stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None and maker.stdout.readline()
        holders = psutil.Process(maker.pid).children()
        assert len(holders) == 3
        os.kill(maker.pid, signal.SIGKILL)
        psutil.wait_procs(holders, timeout=10)
        assert not [holder for holder in holders if holder.is_running()]
