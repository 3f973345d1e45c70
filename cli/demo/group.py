"""The demo group, from `deploy/demo`, made for the NATS server that is really there."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cli.client import ClusterClient, Refused
from cli.errors import CliError
from cli.group_file import read_group

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "deploy" / "demo"
WRITTEN_URL: Final = "nats://127.0.0.1:4222"
"""The server that the programs name; replaced by the real one."""
_INTERVAL: Final = 0.1


def spec(nats_url: str) -> dict[str, Any]:
    """The body that deploys the demo."""
    group = read_group(DIRECTORY / "group.json")
    for pipeline in group["pipelines"]:
        pipeline["source"] = pipeline["source"].replace(json.dumps(WRITTEN_URL), json.dumps(nats_url))
    return group


def ensure(urls: Sequence[str], nats_url: str, *, timeout: float, key: str = "") -> None:
    """Deploy the demo unless it is there, and wait until it runs.

    Raises:
        CliError: it does not run within `timeout` seconds; names the pipelines and their reasons.
    """
    deadline = time.monotonic() + timeout
    with ClusterClient(urls, timeout=timeout, key=key) as client:
        group = _present(client) or _deploy(client, nats_url, timeout)
        while group["status"] != "running":
            if time.monotonic() > deadline:
                raise CliError(
                    f"the demo group is {group['status']}: {reasons(group)}: see `varpulis groups`"
                )
            time.sleep(_INTERVAL)
            group = client.get("/pipeline-groups/demo")


def reasons(group: dict[str, Any]) -> str:
    """Why pipelines of a group do not run, in one line."""
    waiting = [placement for placement in group["placements"] if placement["status"] != "running"]
    said = [
        f"{one['pipeline_name']} is {one['status']}: {one.get('reason') or 'no reason yet'}"
        for one in waiting
    ]
    return "; ".join(said) or "no pipeline is placed yet"


def _present(client: ClusterClient) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get("/pipeline-groups/demo")
    except Refused as refusal:
        if refusal.status != 404:
            raise
        return None
    return found


def _deploy(client: ClusterClient, nats_url: str, timeout: float) -> dict[str, Any]:
    try:
        made: dict[str, Any] = client.post("/pipeline-groups", spec(nats_url), wait=min(5, int(timeout)))
    except Refused as refusal:
        if refusal.status != 409:
            raise
        made = client.get("/pipeline-groups/demo")
    return made
