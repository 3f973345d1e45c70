"""Registrations a second, each through consensus: an incarnation of its own, a session, three journals."""

from typing import Any, Final

from benchmarks.control.bed import bed, workers
from benchmarks.raft.figures import at_least, milliseconds

TARGET: Final = 1_000.0


async def measure(*, count: int) -> dict[str, Any]:
    """`count` new workers join a fresh cluster, and then join again as the same processes."""
    fleet = workers(count, 10)
    result: dict[str, Any] = {}
    async with bed(interval=5.0) as stage:
        await stage.fleet.join(workers(200, 10, first=count))  # warm
        memory, disk = stage.resident_mb(), stage.disk_mb()
        for name in ("first", "again"):
            stage.fleet.forget_counts()
            with stage.meter() as meter:
                took = await stage.fleet.join(fleet)
            result[name] = {
                "per_second": round(count / meter.seconds),
                **milliseconds(took),
                "put_off": stage.fleet.put_off,
                **meter.figures(count),
            }
        result["leader_memory_bytes_each"] = round(
            (stage.resident_mb()["leader"] - memory["leader"]) * 1e6 / count
        )
        result["disk_bytes_each"] = round((stage.disk_mb() - disk) * 1e6 / (2 * count))
        result["leader_changed"] = await stage.leader_changed()
    return {
        "workers": count,
        **result,
        "targets": {
            "rate": at_least(float(result["first"]["per_second"]), TARGET, "registrations a second, at least")
        },
    }
