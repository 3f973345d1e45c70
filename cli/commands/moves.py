"""Commands that move pipelines: `migrate`, `migrations`, `migration show`, `worker drain`, `worker cordon`,
`worker uncordon`.

With `--wait` a command follows what it began, and says on stderr how far it is whenever that changes.
"""

import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from cli.client import ClusterClient
from cli.errors import FAILED, OK, UsageError
from cli.invocation import Invocation, Rows, utc

_LOOK_EVERY: Final = 0.2
_LONGEST: Final = 86_400.0
_SHOWN: Final = 1000
_ENDED: Final = frozenset({"done", "failed", "cancelled"})


def migrate(call: Invocation) -> int:
    """Move one pipeline; with `--wait`, fails when it did not arrive."""
    group, slash, pipeline = call.arguments["pipeline"].partition("/")
    if not (group and slash and pipeline):
        raise UsageError(f"{call.arguments['pipeline']!r} names no pipeline: write it as GROUP/PIPELINE")
    wait = _seconds(call, "wait")
    with call.connect() as client:
        path = f"/pipelines/{quote(group, safe='')}/{quote(pipeline, safe='')}/migrate"
        started = client.post(path, {"to": call.arguments["to"]})
        here = f"/migrations/{started['migration_id']}"
        move = _follow(call, client, here, wait, lambda now: f"{now['id']}: {_how(now)}")
    call.show(move, _moves([move]))
    return _outcome(call, move, wait, f"{group}/{pipeline}")


def migrations(call: Invocation) -> int:
    """The newest migrations, those under way first."""
    with call.connect() as client:
        answer = client.get("/migrations", limit=_SHOWN)
    found = sorted(answer["migrations"], key=lambda move: move["status"] in _ENDED)
    call.show({"migrations": found, "total": answer["total"]}, _moves(found))
    return OK


def migration(call: Invocation) -> int:
    """One migration."""
    with call.connect() as client:
        move = client.get(f"/migrations/{quote(call.arguments['id'], safe='')}")
    call.show(move, _moves([move]))
    return OK


def drain(call: Invocation) -> int:
    """Empty a worker, or with `--cancel` stop doing so; with `--wait`, fails when it is not empty by then."""
    worker, wait, within = call.arguments["id"], _seconds(call, "wait"), _seconds(call, "within")
    here = f"/workers/{quote(worker, safe='')}/drain"
    with call.connect() as client:
        if call.arguments["cancel"]:
            job = client.delete(here)
            call.show(job, _job(job))
            return OK
        client.post(here, {"timeout_secs": within} if within else {})
        job = _follow(call, client, here, wait, _progress)
    call.show(job, _job(job))
    return _outcome(call, job, wait, f"drain of {worker}")


def cordon(call: Invocation) -> int:
    """Place nothing new on a worker."""
    return _cordon(call, "cordon")


def uncordon(call: Invocation) -> int:
    """Place pipelines on a worker again."""
    return _cordon(call, "uncordon")


def _cordon(call: Invocation, verb: str) -> int:
    worker = call.arguments["id"]
    with call.connect() as client:
        answer = client.post(f"/workers/{quote(worker, safe='')}/{verb}", {})
    call.show(answer, Rows((), (), f"{worker} is {verb}ed"))
    return OK


def _follow(
    call: Invocation, client: ClusterClient, path: str, wait: float, words: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """The job once it has ended, or as it is after `wait` seconds."""
    deadline, said = time.monotonic() + wait, ""
    while True:
        now: dict[str, Any] = client.get(path)
        if wait and words(now) != said:
            said = words(now)
            call.note(said)
        if now["status"] in _ENDED or time.monotonic() >= deadline:
            return now
        time.sleep(min(_LOOK_EVERY, max(deadline - time.monotonic(), 0.0)))


def _outcome(call: Invocation, job: dict[str, Any], wait: float, what: str) -> int:
    if job["status"] == "done" or not wait:
        return OK
    call.note(f"varpulis: {what} is {_how(job)}")
    return FAILED


def _how(job: dict[str, Any]) -> str:
    return f"{job['status'].replace('_', ' ')}{': ' + job['reason'] if job['reason'] else ''}"


def _progress(job: dict[str, Any]) -> str:
    return f"{job['moved']} of {job['total']} moved, {job['left']} left: {_how(job)}"


def _seconds(call: Invocation, name: str) -> float:
    seconds = float(call.arguments[name])
    if not 0 <= seconds <= _LONGEST:
        raise UsageError(f"--{name} {seconds:g} is out of range: give seconds from 0 to {_LONGEST:g}")
    return seconds


def _moves(found: list[dict[str, Any]]) -> Rows:
    headings = ("MIGRATION", "PIPELINE", "STATUS", "CAUSE", "FROM", "TO", "REASON")
    further = ("FROM EPOCH", "TO EPOCH", "STARTED", "TOOK")
    rows = [
        (
            move["id"],
            f"{move['group_id']}/{move['pipeline']}",
            move["status"],
            move["cause"],
            move["from_worker"],
            move["to_worker"],
            move["reason"],
            move.get("from_epoch"),
            move.get("to_epoch"),
            utc(move.get("started_at")),
            _took(move),
        )
        for move in found
    ]
    return Rows((*headings, *further), rows, further=len(further))


def _took(move: dict[str, Any]) -> str | None:
    began, ended = move.get("started_at"), move.get("ended_at")
    return None if began is None or ended is None else f"{ended - began} ms"


def _job(job: dict[str, Any]) -> Rows:
    headings = ("WORKER", "STATUS", "TOTAL", "MOVED", "LEFT", "FAILED", "REASON")
    row = (
        job["worker_id"],
        job["status"],
        job["total"],
        job["moved"],
        job["left"],
        job["failed"],
        job["reason"],
    )
    return Rows(headings, [row])
