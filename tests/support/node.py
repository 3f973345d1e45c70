"""One process of the cluster, a coordinator or a worker, with its link and its files.

`Node` knows whether its process is meant to run: one that ends otherwise has died by itself, which `deaths`
tells with the end of its log. One that is started in the middle of a fault may refuse to, in one line and
with exit code 1 (NATS is away, or still holds the connection of its former life). A supervisor would start it
again, and so does `revive`.
"""

import asyncio
import contextlib
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

from cli.drills.link import Link
from tests.support.cluster import environment
from tests.support.nats_server import die_with_parent
from tests.support.ports import free_port

_MOST_TRIES: Final = 10
_STOP_TIMEOUT: Final = 10.0
ALARMS: Final = (
    " CRITICAL ",
    "has withdrawn",
    "contradicts committed",
    "is corrupt",
    "cannot be used",
)
"""What must not stand in any log, nor a traceback."""
_TRACEBACK: Final = "Traceback (most recent call last)"


class Node:
    """One process, its link, its files.

    Args:
        refusal: what the last line says of one that refused to start, a regular expression.
        stop_timeout: seconds an end in order may take.
    """

    def __init__(
        self,
        node_id: str,
        directory: Path,
        link: Link,
        *,
        refusal: str = "cannot start",
        stop_timeout: float = _STOP_TIMEOUT,
    ) -> None:
        self.id, self.link = node_id, link
        self._refusal, self._stop_timeout = re.compile(refusal), stop_timeout
        self.data_dir, self.log = directory / node_id, directory / f"{node_id}.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command: list[str] = []
        self.life = 0
        """Counts its starts."""
        self.refused_starts = 0
        self.deaths: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._tries = 0
        self._retired = False

    @property
    def runs(self) -> bool:
        """Its process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of its process, while that is meant to run."""
        return self._process.pid if self._process is not None else None

    def restart(self) -> None:
        """Start the process unless it runs or is retired; it is ready some seconds later."""
        if self._process is None and not self._retired:
            self._tries = 0
            self._spawn()

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        process = self._take()
        if process is not None:
            process.kill()
            process.wait(timeout=_STOP_TIMEOUT)

    def retire(self) -> None:
        """SIGKILL, for good."""
        self._retired = True
        self.kill()

    async def leave(self) -> None:
        """SIGTERM, for good."""
        self._retired = True
        await self.terminate()

    async def terminate(self) -> None:
        """SIGTERM, and wait for an end in order."""
        process = self._take()
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)  # it may be frozen
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_timeout):
                while process.poll() is None:
                    await asyncio.sleep(0.02)
        if process.poll() is None:
            process.kill()
            process.wait(timeout=_STOP_TIMEOUT)
        if process.returncode != 0:
            self.deaths.append(f"{self.id} ended with {process.returncode} after SIGTERM\n{self.log_end()}")

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """Note a death; start again what refused to start."""
        if self._process is None or self._process.poll() is None:
            return
        code, end = self._process.returncode, self.log_end()
        self._process = None
        if code == 1 and self._refusal.search(end.rstrip().rpartition("\n")[2]):
            self.refused_starts += 1
            self._tries += 1
            if self._tries <= _MOST_TRIES:
                self._spawn()
                return
        self.deaths.append(f"{self.id} died by itself with {code}\n{end}")

    def _take(self) -> "subprocess.Popen[bytes] | None":
        """The process, if it runs, which from now on is not meant to."""
        self.revive()
        process, self._process = self._process, None
        return process

    def log_end(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def alarms(self) -> list[str]:
        """What its log says that no fault of ours explains, each text once; a traceback by its last line."""
        found: Counter[str] = Counter()
        inside = False
        with contextlib.suppress(FileNotFoundError), self.log.open(errors="replace") as log:
            for line in log:
                if inside and not line.startswith((" ", "Traceback")):
                    inside = False
                    found[line.strip()] += 1
                elif _TRACEBACK in line:
                    inside = True
                elif any(alarm in line for alarm in ALARMS):
                    found[(line.partition(self.id)[2] or line).strip()] += 1
        return [f"{self.id}, {count} times: {text}" for text, count in found.items()]

    def _spawn(self) -> None:
        self.life += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )
