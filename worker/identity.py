"""An id belongs to one process.

Before a worker subscribes anything it asks whether somebody answers to its commands. Nobody listens: the id
is free. An answer, whatever it says: a living namesake, and this process does not start. Silence: a frozen
one, which this incarnation supersedes.

Should the frozen one thaw, both would follow the same commands. So a worker hears the heartbeats under its
own id (`worker.membership`), and the older of two incarnations gives way: their names begin with the time of
their start.
"""

import logging
import secrets
from typing import Final

from proto_schemas.subjects import Subjects
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import NatsTransport

TIMEOUT: Final = 0.5
TRIES: Final = 2

log = logging.getLogger(__name__)


class WorkerIdInUse(Exception):
    """Another process answers under this worker id."""


class Superseded(Exception):
    """A newer incarnation of this worker runs."""


def new_incarnation(now_ms: int) -> str:
    """A name for a process started at `now_ms`; a later one compares greater."""
    return f"{now_ms:012x}{secrets.token_hex(4)}"


async def make_sure_of_id(bus: NatsTransport, subjects: Subjects, worker_id: str) -> None:
    """Return when `worker_id` is free, or its holder silent.

    Raises:
        WorkerIdInUse: its holder answers.
        NatsTransportError: the question could not be asked.
    """
    for _ in range(TRIES):
        try:
            await bus.request(subjects.command(worker_id, "hello"), b"{}", timeout=TIMEOUT)
        except NatsTransportError as error:
            if error.kind is ErrorKind.NO_RESPONDERS:
                return
            if error.kind is not ErrorKind.TIMEOUT:
                raise
        else:
            raise WorkerIdInUse(
                f"worker id {worker_id!r} is in use, another process answers under it: "
                "stop that one, or choose another --id"
            )
    log.warning("worker=%s its former holder is silent (frozen?): superseding it", worker_id)
