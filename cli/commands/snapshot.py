"""Commands about copies of the replicated state: `raft snapshot save`, `inspect`, `restore`.

A copy appears under its name whole and checked, or not at all: it is written beside it, for its owner alone,
synced, read back, and then named.

`restore` has two ways, and which one is meant has to be said: `--into CLUSTER` replaces the state of a
running cluster, `--id` makes a directory with no process running there. Into a running cluster nothing goes
by accident: its id is in the command and is checked by the cluster itself, and is typed once more, or there
is `--yes`.
"""

import contextlib
import datetime
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cli.commands.raft import checked, show_generation
from cli.errors import FAILED, OK, CliError, UsageError
from cli.invocation import Invocation, Rows

if TYPE_CHECKING:
    from raft.backup import BackupInfo

_MEGABYTE: Final = 1_000_000
_OFFLINE: Final = (
    ("coordinator.id", "--id"),
    ("coordinator.members", "--members"),
    ("coordinator.data_dir", "--data-dir"),
)


def save(call: Invocation) -> int:
    """Fetch a copy of the state as it is now, into a file."""
    target, force = Path(call.arguments["file"]), call.arguments["force"]
    if target.exists() and not force:
        raise UsageError(f"{target} is there already: choose another name, or say --force")
    with call.connect(progress=_progress) as client:
        data = client.download("/snapshot", wait=call.wait)
    with _os_errors(f"{target} cannot be written"), _beside(target, data) as copy:
        info = _inspected(copy)
        if not info.ok:
            raise CliError(f"the copy came damaged: {info.problem}: nothing was kept, try again")
        _name(copy, target, force=force)
    _show(call, target, info)
    return OK


def inspect(call: Invocation) -> int:
    """What a copy holds; fails when it is damaged."""
    source = _file(call)
    info = _inspected(source)
    _show(call, source, info)
    if info.ok:
        return OK
    call.note(f"varpulis: {source} cannot be restored: {info.problem}")
    return FAILED


def restore(call: Invocation) -> int:
    """Replace the state of a running cluster, or make the directory of a member of a new group."""
    offline = call.settings.resolved("coordinator.id").given
    into = call.arguments["into"]
    if into is not None:
        named = [flag for key, flag in _OFFLINE if call.settings.resolved(key).origin.startswith("--")]
        if named:
            raise UsageError(
                f"--into is for a running cluster, {' and '.join(named)} for a directory: say one of both; "
                "--url names the coordinators of a running one"
            )
        return _restore_running(call, into)
    if call.arguments["from_cluster"] is not None:
        raise UsageError("--from-cluster belongs to --into: a new group takes a copy of any cluster")
    if not offline:
        raise UsageError(
            "say into what: --into CLUSTER replaces the state of the running cluster of that id; "
            "--id, --members and --data-dir make the directory of one member of a new group"
        )
    return _restore_offline(call)


def _restore_running(call: Invocation, into: str) -> int:
    source, origin = _file(call), call.arguments["from_cluster"]
    info = _inspected(source)
    if not info.ok:
        raise CliError(f"{source} cannot be restored: {info.problem}: nothing was done")
    if info.cluster not in (into, origin):
        raise UsageError(
            f"{source} is a copy of cluster {info.cluster}, not of {into}: nothing was done; "
            f"say --from-cluster {info.cluster} if that is meant"
        )
    query: dict[str, Any] = {"wait": call.wait, "confirm": into}
    if origin is not None:
        query["from_cluster"] = origin
    call.confirm(
        f"the whole state of the running cluster {into} becomes that of {source}, taken {_when(info)}; what "
        "it was told since is undone",
        into,
    )
    with call.connect() as client:
        answer = client.upload("/snapshot", source.read_bytes(), **query)
    facts = [(name.replace("_", " "), value) for name, value in answer.items()]
    call.show(answer, Rows(("RESTORED", ""), facts))
    if placing := answer["pipelines"] - answer["kept"]:
        call.note(f"{placing} of {answer['pipelines']} pipelines are being placed: varpulis groups")
    return OK


def _when(info: "BackupInfo") -> str:
    taken = datetime.datetime.fromtimestamp(info.taken_at_ms / 1000, datetime.UTC)
    return f"{taken:%Y-%m-%d %H:%M:%S} UTC at entry {info.last_index}"


def _restore_offline(call: Invocation) -> int:
    from raft.errors import RaftError
    from raft.recovery import restore

    source, settings = _file(call), call.settings
    node_id, members = settings.required("coordinator.id"), settings.required("coordinator.members")
    for name in (node_id, *members):
        checked(name)
    directory, cluster = call.directory("coordinator", node_id), settings["cluster.id"]
    call.confirm(
        f"{directory} becomes {node_id} of a new group of {', '.join(members)}; what the cluster was told "
        "after the copy was made is not in it",
        node_id,
    )
    try:
        generation = restore(source, directory, cluster_id=cluster, node_id=node_id, members=members)
    except (RaftError, OSError) as error:
        raise CliError(str(error)) from None
    show_generation(call, msgspec.to_builtins(generation))
    if (origin := _inspected(source).cluster) != cluster:
        call.note(f"the copy is of cluster {origin}, and the new group is cluster {cluster} (--cluster-id)")
    call.note(
        f"once each of {', '.join(members)} has been restored from this copy: varpulis coordinator "
        f"--id {node_id} --members {','.join(members)} --cluster-id {cluster} --data-dir {directory}"
    )
    return OK


def _file(call: Invocation) -> Path:
    source = Path(call.arguments["file"])
    if not source.is_file():
        raise UsageError(f"there is no file {source}: give one that `varpulis raft snapshot save` wrote")
    return source


def _inspected(path: Path) -> "BackupInfo":
    from raft.backup import inspect

    with _os_errors(f"{path} cannot be read"):
        return inspect(path)


def _show(call: Invocation, path: Path, info: "BackupInfo") -> None:
    document: dict[str, Any] = {"file": str(path), **msgspec.to_builtins(info)}
    rows = [(name.replace("_", " "), value) for name, value in document.items()]
    call.show(document, Rows(("COPY", ""), rows))


@contextlib.contextmanager
def _beside(target: Path, data: bytes) -> Iterator[Path]:
    """`data`, durable, in a file beside `target` that is gone at the end unless it was renamed."""
    copy = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _name(copy: Path, target: Path, *, force: bool) -> None:
    if force:
        copy.replace(target)
    else:
        target.hardlink_to(copy)  # unlike a rename, it never takes the place of a file that came meanwhile
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CliError(f"{what}: {error}") from None


def _progress(come: int, total: int | None) -> None:
    if sys.stderr.isatty():
        of = f" of {total / _MEGABYTE:.0f}" if total else ""
        end = "\n" if come == total else ""
        sys.stderr.write(f"\r{come / _MEGABYTE:.0f}{of} MB{end}")
        sys.stderr.flush()
