"""What measurements of a worker need around it: a nats-server and real processes, all gone at the end.

`python -m benchmarks.stage worker URL DIRECTORY ID SETTINGS` is the worker's process; it runs until SIGTERM.
"""

import contextlib
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nats
import psutil

from proto_schemas.subjects import Subjects
from transport.config import NatsConfig
from transport.loop import run as run_loop
from transport.nats_binary import nats_server_binary
from worker.app import WorkerConfig, serve

WAIT: Final = 20.0
"""Seconds within which a process must be up."""
WORKER: Final = "bench"


@contextlib.contextmanager
def nats_server(*, jetstream: bool = False) -> Iterator[str]:
    """The URL of a nats-server of our own on a free port; `jetstream`: it has that, and syncs each write."""
    with tempfile.TemporaryDirectory() as directory:
        command = [str(nats_server_binary()), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", directory]
        if jetstream:
            settings = Path(directory) / "nats.conf"
            store = json.dumps(f"{directory}/jetstream")
            settings.write_text(f"jetstream: {{ store_dir: {store}, sync_interval: always }}\n")
            command += ["-c", str(settings)]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield _url(Path(directory))
        finally:
            server.kill()
            server.wait()


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[psutil.Process]:
    """A Python process `python -m ARGUMENTS`, ended with the block."""
    child = subprocess.Popen([sys.executable, "-m", *arguments])
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def worker(url: str, name: str = WORKER, **settings: str | float) -> Iterator[psutil.Process]:
    """A worker process, with id `name`; `settings`: more of its `WorkerConfig`."""
    with (
        tempfile.TemporaryDirectory() as directory,
        process("benchmarks.stage", "worker", url, directory, name, json.dumps(settings)) as child,
    ):
        yield child


async def command(client: Any, name: str, message: dict[str, Any], worker_id: str = WORKER) -> Any:
    """Send a command to the worker, and try again until it is up; the answer, read."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            subject = Subjects().command(worker_id, name)
            return json.loads(
                (await client.request(subject, json.dumps(message).encode(), timeout=WAIT)).data
            )
        except nats.errors.NoRespondersError:
            if time.monotonic() > deadline:
                raise


def deploy(url: str, message: dict[str, Any], worker_id: str = WORKER) -> None:
    """Have a worker run a pipeline, once it is up."""

    async def send() -> int:
        client = await nats.connect(url)
        try:
            answer = await command(client, "deploy", message, worker_id)
        finally:
            await client.close()
        if answer.get("status") != "running":
            raise RuntimeError(f"{worker_id} did not deploy {message['name']}: {answer}")
        return 0

    run_loop(send())


def _url(directory: Path) -> str:
    """The URL that nats-server writes into its ports file."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for file in directory.glob("*.ports"):
            if text := file.read_text():
                return str(json.loads(text)["nats"][0])
        time.sleep(0.01)
    raise TimeoutError(f"nats-server did not write its port within {WAIT:g} s")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # nobody is there to register with
    _, _, server_url, data_dir, own_id, more = sys.argv
    config = WorkerConfig(own_id, NatsConfig(servers=(server_url,)), Path(data_dir), **json.loads(more))
    sys.exit(run_loop(serve(config)))
