"""What a service manager is told, on a real datagram socket."""

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.poll import until
from tests.support.service_manager import Listener
from transport.notify import ServiceManager, attended


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener(tmp_path / "notify") as each:
        yield each


def manager(listener: Listener, **environ: str) -> ServiceManager:
    return ServiceManager({**listener.environ, **environ})


def test_readiness_is_told_once_and_a_start_puts_off_its_end_until_then(listener: Listener) -> None:
    told = manager(listener)
    told.look(lambda: (False, "waits"), 100)
    assert listener.heard() == ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=waits"]
    told.look(lambda: (False, "waits"), 101)
    assert listener.heard() == []
    told.look(lambda: (False, "waits"), 105)
    assert listener.heard() == ["EXTEND_TIMEOUT_USEC=30000000"]
    told.look(lambda: (True, "leads"), 106)
    assert listener.heard() == ["READY=1", "STATUS=leads"]
    told.look(lambda: (False, "no majority"), 111)
    told.look(lambda: (True, "leads"), 116)
    assert listener.heard() == ["STATUS=no majority", "STATUS=leads"]


def test_a_sign_of_life_comes_three_times_within_the_watchdogs_time(listener: Listener) -> None:
    told = manager(listener, WATCHDOG_USEC="3000000")
    told.look(lambda: (True, ""), 100)
    listener.heard()
    for now in (100.5, 101, 101.5, 102, 102.9):
        told.look(lambda: (True, ""), now)
    assert listener.heard() == ["WATCHDOG=1"] * 2


def test_readiness_that_was_lost_is_told_again(listener: Listener) -> None:
    told = manager(listener)
    while told.tell("WATCHDOG=1"):  # until the socket is full
        pass
    told.look(lambda: (True, "leads"), 100)
    assert "READY=1" not in listener.heard()
    told.look(lambda: (True, "leads"), 100.1)
    assert listener.heard() == ["READY=1", "STATUS=leads"]


def test_a_stop_is_told_and_nothing_but_the_watchdog_after_it(listener: Listener) -> None:
    told = manager(listener, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    told.stopping()
    told.look(lambda: (True, "leads"), 100)
    assert listener.heard() == ["STOPPING=1", "STATUS=stops", "WATCHDOG=1"]


def test_no_text_of_a_status_becomes_a_line_of_its_own(listener: Listener) -> None:
    told = manager(listener)
    told.look(lambda: (True, "disk failed:\nREADY=0\nMAINPID=1"), 100)
    assert listener.heard() == ["READY=1", "STATUS=disk failed: READY=0 MAINPID=1"]


def test_a_socket_in_the_abstract_namespace_is_found() -> None:
    name = f"varpulis-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert listener.recv(100, socket.MSG_DONTWAIT) == b"READY=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_ours_only_where_it_names_this_process(
    environ: dict[str, str], seconds: float
) -> None:
    assert ServiceManager(environ).watchdog == seconds


@pytest.mark.parametrize("named", ["", "relative", "vsock:2:1234", "/no/such/socket"])
def test_where_nobody_listens_telling_does_nothing(named: str) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": named})
    told.tell("READY=1")
    told.look(lambda: (True, ""), 100)


async def test_a_loop_that_hangs_tells_nothing_so_the_watchdog_bites(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(listener.path))
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    async with attended(lambda: (True, "leads")):
        await until(lambda: "WATCHDOG=1" in listener.heard(), timeout=5)
        await asyncio.sleep(0)
        listener.heard()
        assert listener.heard(wait=0.3) == []  # it waits in the loop, which turns no more
        await until(lambda: "WATCHDOG=1" in listener.heard(), timeout=5)


async def test_without_a_manager_no_task_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    before = asyncio.all_tasks()
    async with attended(lambda: (True, "")) as told:
        assert not told.listens
        assert asyncio.all_tasks() == before


async def test_nothing_is_told_after_the_end(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(listener.path))
    before = asyncio.all_tasks()
    async with attended(lambda: (False, "starts")):
        await until(lambda: "STATUS=starts" in listener.heard(), timeout=5)
    assert asyncio.all_tasks() == before
