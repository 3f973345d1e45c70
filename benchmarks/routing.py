"""Events a second through NATS: in, through a filter in one worker, and out again.

Three processes and a nats-server: the worker, the same filter as a bare nats-py callback, and this one,
which makes and hears the events on plain sockets, so that the machine's time goes to what is measured.
Worker and bare loop take turns; a ratio is the median of the rounds' ratios, since both sides of a round
met about the same load. The CPU time of an event is that of the process alone, and hardly depends on what
else the machine does. The generator keeps at most `WINDOW` events under way, so nothing is dropped; every
event is waited for.
"""

import asyncio
import json
import socket
import statistics
import sys
import threading
import time
from typing import Any, Final
from urllib.parse import urlsplit

import nats
import orjson

from benchmarks import stage
from transport.loop import run as run_loop

TARGET: Final = 80_000
WINDOW: Final = 20_000
CHUNK: Final = 250
LIMIT: Final = 30_000
SUBJECTS: Final = {
    "worker": ("bench.in.worker", "bench.out.worker"),
    "bare": ("bench.in.bare", "bench.out.bare"),
}


def run(events: int = 200_000, rounds: int = 3, passing_percent: int = 100) -> dict[str, Any]:
    """Events a second through a worker and through a bare loop, and the ratio of the two.

    Args:
        events: a round's events; `passing_percent` of them pass the filter and come out.
    """
    rates: dict[str, list[float]] = {"worker": [], "bare": []}
    cpu: dict[str, list[float]] = {"worker": [], "bare": []}
    with (
        stage.nats_server() as url,
        stage.worker(url) as worker,
        stage.process("benchmarks.routing", "bare", url) as bare,
    ):
        processes = {"worker": worker, "bare": bare}
        run_loop(_deploy(url))
        for subjects in SUBJECTS.values():
            _until_up(url, *subjects)
            _rate(url, *subjects, CHUNK * 40, passing_percent)
        for _ in range(rounds):
            for name, taken in rates.items():
                before = sum(processes[name].cpu_times()[:2])
                taken.append(_rate(url, *SUBJECTS[name], events, passing_percent))
                cpu[name].append((sum(processes[name].cpu_times()[:2]) - before) / events * 1e6)
    best = max(rates["worker"])
    ratios = [ours / bare for ours, bare in zip(rates["worker"], rates["bare"], strict=True)]
    return {
        "worker_events_per_s": {"value": round(best), "target": f">= {TARGET}", "met": best >= TARGET},
        "nats_py_events_per_s": round(max(rates["bare"])),
        "ratio_median": round(statistics.median(ratios), 3),
        "cpu_us_per_event": {name: round(min(taken), 2) for name, taken in cpu.items()},
        "rounds": {name: [round(rate) for rate in taken] for name, taken in rates.items()},
    }


# --- what is measured


async def _deploy(url: str) -> int:
    subject, out = SUBJECTS["worker"]
    source = (
        f'connector Bus = nats(servers: "{url}")\n'
        f'stream Held = Door.from(Bus, topic: "{subject}").where(held_ms > {LIMIT})'
        f'.emit(badge: badge, held_ms: held_ms).to(Bus, topic: "{out}")'
    )
    client = await nats.connect(url)
    answer = await stage.command(client, "deploy", {"name": "filter", "source": source})
    await client.close()
    if answer.get("status") != "running":
        raise RuntimeError(f"the worker did not deploy the filter: {answer}")
    return 0


async def _bare(url: str) -> int:
    client = await nats.connect(url)
    subject, out = SUBJECTS["bare"]

    async def filter_held(message: Any) -> None:
        event = orjson.loads(message.data)
        fields = event["fields"]
        if fields["held_ms"] > LIMIT:
            kept = {"badge": fields["badge"], "held_ms": fields["held_ms"]}
            output = {"event_type": "Held", "timestamp": event["timestamp"], "fields": kept}
            await client.publish(out, orjson.dumps(output))

    await client.subscribe(subject, cb=filter_held)
    await asyncio.Event().wait()
    return 0


# --- load, on plain sockets


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=stage.WAIT)
    connection.sendall(b'CONNECT {"verbose":false}\r\n')
    return connection


def _chunk(subject: str, passing_percent: int) -> bytes:
    frames = []
    for number in range(CHUNK):
        held_ms = LIMIT + 1 if number * 100 < CHUNK * passing_percent else LIMIT
        fields = {"badge": f"b-{number}", "held_ms": held_ms, "site": "hq"}
        data = json.dumps({"event_type": "Door", "timestamp": 1_760_000_000_000 + number, "fields": fields})
        frames.append(f"PUB {subject} {len(data)}\r\n{data}\r\n")
    return "".join(frames).encode()


class _Listener(threading.Thread):
    """Counts the messages on a subject until there were `wanted`."""

    def __init__(self, url: str, subject: str, wanted: int) -> None:
        super().__init__(daemon=True)
        self._socket = _connect(url)
        self._mark = f"MSG {subject} ".encode()
        self._socket.sendall(f"SUB {subject} 1\r\nPING\r\n".encode())
        seen = b""
        while b"PONG" not in seen:
            seen += self._socket.recv(4096)
        self._wanted = wanted
        self.count = 0

    def run(self) -> None:
        with self._socket:
            tail = b""
            while self.count < self._wanted:
                data = tail + self._socket.recv(1 << 18)
                self.count += data.count(self._mark)
                tail = data[len(data) - len(self._mark) + 1 :]


def _rate(url: str, subject: str, out: str, events: int, passing_percent: int) -> float:
    chunk = _chunk(subject, passing_percent)
    passing = chunk.count(f'"held_ms": {LIMIT + 1}'.encode())
    chunks = max(1, events // CHUNK)
    listener = _Listener(url, out, chunks * passing)
    listener.start()
    with _connect(url) as generator:
        start = time.perf_counter()
        for sent in range(chunks):
            while sent * passing - listener.count > WINDOW * passing / CHUNK:
                time.sleep(0.0005)
                if not listener.is_alive():
                    raise RuntimeError(f"{out}: outputs stopped after {listener.count}")
            generator.sendall(chunk)
        listener.join(timeout=stage.WAIT * 6)
        taken = time.perf_counter() - start
    if listener.is_alive():
        raise RuntimeError(f"{out}: only {listener.count} of {chunks * passing} outputs came")
    return chunks * CHUNK / taken


def _until_up(url: str, subject: str, out: str) -> None:
    """Send single events until one comes out."""
    listener = _Listener(url, out, 1)
    listener.start()
    deadline = time.monotonic() + stage.WAIT
    with _connect(url) as generator:
        while listener.is_alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing came out on {out} within {stage.WAIT:g} s")
            generator.sendall(_chunk(subject, 100))
            listener.join(timeout=0.05)


if __name__ == "__main__":
    run_loop(_bare(sys.argv[2]))
