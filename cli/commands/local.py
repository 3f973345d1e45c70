"""`up` and `down`: the cluster of a data directory on this machine."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cli.errors import FAILED, OK, CliError
from cli.invocation import Invocation, Rows
from cli.settings import BY_KEY
from cli.up import cluster, keys, screen, targets
from cli.up.plan import Wanted
from cli.up.record import Process, Record

_PATIENCE: Final = 3.0
_WISHES: Final = ("coordinators", "workers", "http_port", "nats_port", "require_keys")


def up(call: Invocation) -> int:
    """Start what is missing, wait until all is ready, show it; then watch it, or with `--detach` return, with
    failure when a coordinator could not be started.
    """
    settings = call.settings
    request = cluster.Request(
        data_dir=call.data_dir.resolve(),
        wanted=Wanted(
            **{name: settings[f"up.{name}"] for name in _WISHES if settings.resolved(f"up.{name}").given}
        ),
        defaults=Wanted(**{name: BY_KEY[f"up.{name}"].default for name in _WISHES}),
        demo=settings["up.demo"],
        nats_server=settings["up.nats_server"],
        config=settings.file,
        ready_timeout=settings["up.ready_timeout"],
    )
    with _termination_interrupts():
        with screen.progress() as tell:
            started = cluster.start(request, tell)
        if not call.arguments["detach"]:
            screen.watch(request.data_dir, started, lambda: _announce(call, started), demo=request.demo)
            return OK
        _announce(call, started)
        return FAILED if started.lost else OK


def down(call: Invocation) -> int:
    """Stop everything; nothing running is no error."""
    data_dir = call.data_dir.resolve()
    stopped = cluster.stop(data_dir)
    rows = [(process.id, process.pid) for process in stopped]
    title = f"stopped {len(stopped)} processes" if stopped else f"nothing runs in {data_dir}"
    call.show({"stopped": [process.id for process in stopped]}, Rows(("STOPPED", "PID"), rows, title))
    return OK


def _announce(call: Invocation, started: cluster.Started) -> None:
    """What runs where, what could not be started, and the admin's key when it was made now."""
    record = started.record
    if started.admin_key is not None:
        call.note(
            f"varpulis: the admin's API key is {started.admin_key}\n"
            f"varpulis: it is shown only now, and lies in {keys.admin(call.data_dir)}"
        )
    runs = {} if call.for_programs else what_runs(record, keys.of(call.data_dir, record))
    call.show(document(record, str(call.data_dir.resolve())), _table(record, runs))
    if not call.for_programs:
        call.note(f"varpulis: for Prometheus, the targets are in {call.data_dir.resolve() / targets.NAME}")
    for how in started.lost.values():
        call.note(f"varpulis: {how}")
    if started.lost:
        call.note(f"varpulis: {_on_a_majority(started)}")


def document(record: Record, data_dir: str) -> dict[str, Any]:
    """What runs, as `up -o json` prints it."""
    nats = next((process.url for process in record.running if process.role == "nats"), None)
    return {
        "nats": nats,
        "processes": [
            {"role": process.role, "id": process.id, "pid": process.pid, "url": process.url}
            for process in record.running
        ],
        "cluster_id": record.cluster_id,
        "data_dir": data_dir,
        "targets": str(Path(data_dir) / targets.NAME),
    }


def _on_a_majority(started: cluster.Started) -> str:
    total = started.record.coordinators
    return (
        f"the cluster runs on a majority, {total - len(started.lost)} of {total} coordinators: repair "
        f"{', '.join(started.lost)} (docs/raft.md, 'For operators'), then run `varpulis up` again"
    )


def what_runs(record: Record, key: str) -> dict[str, str]:
    """What each process does: who leads, and which pipelines run where; nothing when nobody answers."""
    from cli.client import ClusterClient

    urls = [process.url for process in record.running if process.role == "coordinator" and process.url]
    try:
        with ClusterClient(urls, timeout=_PATIENCE, key=key) as client:
            topology, leader = client.get("/topology"), client.get("/summary")["leader_id"]
    except CliError:
        return {}
    runs = {worker["id"]: ", ".join(worker["assigned_pipelines"]) for worker in topology["workers"]}
    return {**runs, leader: "leads"}


def _table(record: Record, runs: dict[str, str]) -> Rows:
    def row(process: Process) -> tuple[Any, ...]:
        return process.id, process.role, process.pid, process.url, runs.get(process.id)

    return Rows(("PROCESS", "ROLE", "PID", "URL", "RUNS"), [row(process) for process in record.running])


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM end a start as Ctrl-C does, in order."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
