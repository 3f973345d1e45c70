"""What Prometheus is to scrape of a cluster: `targets.json` in its data directory, for `file_sd_configs`.

The file follows the record: it names every coordinator and worker that was started and not stopped, so one
that died stays a target, and is seen to be down. It is replaced in one step, and Prometheus, which watches
it, follows without a restart. The labels `job` are those that our alerts and dashboards speak of.
"""

from pathlib import Path
from typing import Final

import msgspec

from cli.up.record import Record

NAME: Final = "targets.json"
JOBS: Final = {"coordinator": "varpulis-coordinators", "worker": "varpulis-workers"}


class Group(msgspec.Struct, frozen=True):
    """One group of targets, as Prometheus reads it."""

    targets: list[str]
    labels: dict[str, str]


def groups(record: Record) -> list[Group]:
    """The groups of a cluster, one for each job that has targets."""
    found = []
    for role, job in JOBS.items():
        started = [each for each in record.processes if each.role == role and each.pid and each.port]
        if started:
            addresses = sorted(f"127.0.0.1:{process.port}" for process in started)
            found.append(Group(addresses, {"job": job, "cluster": record.cluster_id}))
    return found


def write(data_dir: Path, record: Record) -> None:
    """Replace the file in one step."""
    path = data_dir / NAME
    fresh = path.with_suffix(".json.new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(groups(record)), indent=2))
    fresh.replace(path)
