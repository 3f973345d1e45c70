"""What a start has to do, decided from what is wanted, what is remembered, and what is alive. No I/O.

A count or port that nobody asked for is the remembered one, so a bare `varpulis up` completes what an
earlier one started. Membership of the coordinators is fixed at the first start. Ports can change only
while nothing runs: processes that run know each other by them.
"""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from cli.errors import UsageError
from cli.up.record import Process, Record

WORKER_PORT_OFFSET = 20
"""Where workers' HTTP ports start, above the first coordinator's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; `None`: nothing was said, so the remembered value counts, else the default."""

    coordinators: int | None = None
    workers: int | None = None
    http_port: int | None = None
    nats_port: int | None = None
    require_keys: bool | None = None


def settle(
    wanted: Wanted, remembered: Record | None, alive: Collection[str], *, defaults: Wanted, cluster_id: str
) -> Record:
    """The record to work towards; processes are taken over as they are.

    Raises:
        UsageError: the wish contradicts what is remembered or running; names both values.
    """
    if remembered is None:
        return Record(
            cluster_id=cluster_id,
            coordinators=_first(wanted.coordinators, defaults.coordinators),
            workers=_first(wanted.workers, defaults.workers),
            http_port=_first(wanted.http_port, defaults.http_port),
            nats_port=_first(wanted.nats_port, defaults.nats_port),
            require_keys=bool(wanted.require_keys),
            cluster_key=True,
        )
    if wanted.coordinators not in (None, remembered.coordinators):
        raise UsageError(
            f"--coordinators {wanted.coordinators} contradicts the {remembered.coordinators} this cluster "
            "was made with: membership is fixed in this version; leave it out, or take another --data-dir"
        )
    for name in ("http_port", "nats_port"):
        asked, known = getattr(wanted, name), getattr(remembered, name)
        if asked not in (None, known) and alive:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} {asked} contradicts {known}, where this cluster runs: "
                "`varpulis down` first, or leave it out"
            )
    if wanted.require_keys not in (None, remembered.require_keys) and alive:
        raise UsageError(
            f"require_keys {wanted.require_keys} contradicts {remembered.require_keys}, as this cluster "
            "runs: `varpulis down` first, or leave it out"
        )
    return msgspec.structs.replace(
        remembered,
        require_keys=remembered.require_keys if wanted.require_keys is None else wanted.require_keys,
        workers=_first(wanted.workers, remembered.workers),
        http_port=_first(wanted.http_port, remembered.http_port),
        nats_port=_first(wanted.nats_port, remembered.nats_port),
    )


def missing(record: Record, alive: Collection[str]) -> list[Process]:
    """What must be started beside the ids `alive`, NATS first. A worker's port 0: none chosen yet."""
    wanted = [
        Process(role="nats", id="nats", port=record.nats_port),
        *(
            Process(role="coordinator", id=f"coordinator-{number}", port=record.http_port + number)
            for number in range(record.coordinators)
        ),
        *(
            Process(role="worker", id=worker_id, port=_port_of(record, worker_id))
            for worker_id in (f"worker-{number}" for number in range(record.workers))
        ),
    ]
    return [process for process in wanted if process.id not in alive]


def _port_of(record: Record, worker_id: str) -> int:
    known = record.find(worker_id)
    return known.port if known else 0


def _first(*choices: int | None) -> int:
    return next(choice for choice in choices if choice is not None)
