"""Raft side by side with etcd, JetStream's key-value store and the floor: `python -m benchmarks raft`.

Each part is a module that says what it compares and how. Whatever is compared is measured in the same run on
the same machine, in turns, so the ratios hold on a noisy machine where single figures do not. Data lies in
the system's temporary directory (`TMPDIR`); the conditions tell its file system, as figures of a `tmpfs` say
nothing.

`python -m benchmarks.plot FILE.json docs/figures/` turns the output into figures and the table of the docs.
"""

import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

from benchmarks import WrongUsage
from transport.loop import run as run_loop

DEFAULT_PARTS: Final = "commit,failover,idle,queue,compaction,transfer,members"
OPTIONAL_PARTS: Final = ("crosscheck",)


def run(
    parts: str = DEFAULT_PARTS,
    seconds: float = 3.0,
    rounds: int = 3,
    sizes: str = "200,4096,65536",
    clients: str = "1,8,64",
    failovers: int = 10,
    idle_seconds: float = 20.0,
    megabytes: int = 50,
    transfers: int = 10,
    changes: int = 3,
) -> dict[str, Any]:
    """Figures of the parts named in `parts`.

    Args:
        seconds: of load behind each figure of `commit`, spread over its `rounds`.
        sizes, clients: bytes of a write, and numbers of clients, comma-separated.
        failovers: leaders killed in each system.
        idle_seconds: over which the CPU of idle processes is taken.
        megabytes: size of the state that is snapshotted, or in which members change, while commits go on.
        transfers: of leadership under load.
        changes: of members under load.

    Raises:
        WrongUsage: a part that does not exist, or numbers that are none.
    """
    # Imported here: `benchmarks.raft.node` is a process of its own and needs none of it.
    from benchmarks.raft import commit, compaction, crosscheck, failover, idle, members, queue, transfer

    cells = {"sizes": numbers(sizes), "clients": numbers(clients)}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "commit": lambda: on_loop(commit.measure(seconds=seconds, rounds=rounds, **cells)),
        "failover": lambda: on_loop(failover.measure(rounds=failovers)),
        "idle": lambda: on_loop(idle.measure(seconds=idle_seconds)),
        "queue": lambda: on_loop(queue.measure()),
        "compaction": lambda: compaction.measure(megabytes=megabytes),
        "transfer": lambda: on_loop(transfer.measure(transfers=transfers)),
        "members": lambda: on_loop(members.measure(changes=changes, megabytes=megabytes)),
        "crosscheck": lambda: on_loop(crosscheck.measure(seconds=seconds)),
    }
    wanted = parts.split(",")
    for part in wanted:
        if part not in measures:
            raise WrongUsage(f"no part {part!r}: use some of {DEFAULT_PARTS},{','.join(OPTIONAL_PARTS)}")
    return {part: measured(measures[part]) for part in wanted}


def numbers(text: str | int) -> list[int]:
    """Of a parameter like 1,8,64. Raises WrongUsage."""
    try:
        return [int(part) for part in str(text).split(",")]
    except ValueError:
        raise WrongUsage(f"{text!r} are no numbers: write them like 1,8,64") from None


def measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part found; one that fails misses its target, and the other parts are measured all the same."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}", "met": False}


def on_loop(measure: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run it on the event loop that the cluster's processes use."""
    result: dict[str, Any] = {}

    async def main() -> int:
        result.update(await measure)
        return 0

    run_loop(main())
    return result
