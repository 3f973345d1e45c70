"""What keys and signatures cost, as ratios of the same work with and without, in one run.

- `rest`: a read of a coordinator that asks for keys beside one that does not, both in this process, asked in
  turn, a slice each; 1,000 other keys are known.
- `check`: one check of a key in units of one scrypt with the usual cost (N = 2^14, r = 8), which is what a
slow
  hash would cost each request, a wrong one too.
- `raft`: commits of three node processes whose frames are signed beside three whose are not, visited in turn.
"""

import asyncio
import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpcore

from benchmarks.raft import ours
from coordinator.app import Coordinator
from coordinator.config import CoordinatorConfig
from coordinator.security import keys
from coordinator.state.apply import apply
from coordinator.state.commands import CreateKey
from coordinator.state.model import State
from coordinator.state.records import KeyRole
from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from transport.keyring import new_key
from transport.loop import run as run_loop

REST_TARGET: Final = 1.15
CHECK_TARGET: Final = 0.001
RAFT_TARGET: Final = 0.85
SLICE: Final = 50
OTHER_KEYS: Final = 1_000
CLIENTS: Final = (1, 64)


def run(
    requests: int = 2000, rounds: int = 3, seconds: float = 1.5, parts: str = "rest,check,raft"
) -> dict[str, Any]:
    """The ratios; `rest` and `check` must not exceed theirs, `raft` (rates) must reach its own."""
    chosen = str(parts).split(",")
    result: dict[str, Any] = {}

    async def main() -> int:
        with tempfile.TemporaryDirectory() as directory:
            if "rest" in chosen:
                result["rest"] = await _rest(Path(directory), requests)
            if "check" in chosen:
                result["check"] = _check()
            if "raft" in chosen:
                result["raft"] = await _raft(Path(directory), rounds, seconds)
        return 0

    run_loop(main())
    return result


# -- keys


async def _rest(directory: Path, requests: int) -> dict[str, Any]:
    key = keys.new_key()
    (directory / "admin").write_text(key.text)
    (directory / "admin").chmod(0o600)
    with NatsServer() as server:
        open_one = await _coordinator(server.url, directory, "open")
        keyed = await _coordinator(
            server.url, directory, "keyed", admin_key_file=directory / "admin", rate_limit=0.0
        )
        try:
            async with httpcore.AsyncConnectionPool() as pool:
                await _until_known(pool, keyed, key)
                _crowd(keyed)
                headers = [(b"x-api-key", key.text.encode())]
                times: dict[str, list[float]] = {open_one.url: [], keyed.url: []}
                for _ in range(max(1, requests // SLICE) + 1):
                    for url, taken in times.items():
                        for _ in range(SLICE):
                            start = time.perf_counter()
                            await pool.request("GET", _target(url), headers=headers)
                            taken.append(time.perf_counter() - start)
        finally:
            await asyncio.gather(open_one.stop(), keyed.stop())
    without, with_keys = (statistics.median(taken[SLICE:]) for taken in times.values())
    ratio = round(with_keys / without, 3)
    return {"ratio_p50": {"value": ratio, "target": f"<= {REST_TARGET}", "met": ratio <= REST_TARGET}}


async def _coordinator(url: str, directory: Path, name: str, **more: Any) -> Coordinator:
    node = Coordinator(
        CoordinatorConfig(
            node_id=name,
            members=(name,),
            cluster_id=name,
            prefix=f"bench.{name}",
            data_dir=directory / name,
            nats=NatsConfig(servers=(url,), name=name),
            http_port=0,
            **more,
        )
    )
    await node.start()
    return node


async def _until_known(pool: httpcore.AsyncConnectionPool, node: Coordinator, key: keys.Key) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = await pool.request("GET", _target(node.url), headers=[(b"x-api-key", key.text.encode())])
        if answer.status == 200:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the coordinator does not take its key within 20 s")


def _crowd(node: Coordinator) -> None:
    assert node._loop is not None
    _make_keys(node._loop._ledger.state)


def _make_keys(state: State) -> list[keys.Key]:
    made = [keys.new_key() for _ in range(OTHER_KEYS)]
    for key in made:
        sealed = keys.digest(key)
        command = CreateKey(
            by="b", key_id=key.id, role=KeyRole.VIEWER, salt=sealed.salt, digest=sealed.digest
        )
        apply(state, command)
    return made


def _target(url: str) -> str:
    return f"{url}{API_BASE}/summary?consistency=stale"


def _check() -> dict[str, Any]:
    state = State()
    texts = [key.text for key in _make_keys(state)]
    start = time.perf_counter()
    for text in texts:
        key = keys.parse_key(text)
        assert key is not None and keys.check(state, key, 1) is not None
    one_check = (time.perf_counter() - start) / len(texts)
    start = time.perf_counter()
    for number in range(5):
        hashlib.scrypt(b"%d" % number, salt=b"salt", n=2**14, r=8, p=1)
    ratio = one_check / ((time.perf_counter() - start) / 5)
    return {
        "microseconds": round(one_check * 1e6, 2),
        "of_one_scrypt": {
            "value": round(ratio, 6),
            "target": f"<= {CHECK_TARGET}",
            "met": ratio <= CHECK_TARGET,
        },
    }


# -- signatures


async def _raft(directory: Path, rounds: int, seconds: float) -> dict[str, Any]:
    key_file = directory / "cluster.key"
    key_file.write_text(new_key("bench"))
    key_file.chmod(0o600)
    rates: dict[tuple[bool, int], list[float]] = {}
    for number in range(rounds):
        for signed in (False, True) if number % 2 else (True, False):
            place = directory / f"{number}-{signed}"
            place.mkdir()
            async with ours.nodes(
                place, *(["--cluster-key-file", str(key_file)] if signed else [])
            ) as cluster:
                leader = await cluster.leader()
                await ours.load_inside(cluster, leader, 8, 0.3, 200)
                for clients in CLIENTS:
                    figures = await ours.load_inside(cluster, leader, clients, seconds, 200)
                    rates.setdefault((signed, clients), []).append(float(figures["per_second"]))
    result: dict[str, Any] = {}
    for clients in CLIENTS:
        with_macs, without = (statistics.median(rates[kind, clients]) for kind in (True, False))
        ratio = round(with_macs / without, 3)
        result[f"clients_{clients}"] = {
            "signed_per_s": round(with_macs),
            "unsigned_per_s": round(without),
            "ratio": {"value": ratio, "target": f">= {RAFT_TARGET}", "met": ratio >= RAFT_TARGET},
        }
    return result
