"""`worker show` and `worker remove`: one worker."""

from typing import Any
from urllib.parse import quote

from cli.errors import OK
from cli.invocation import Invocation, Rows


def show(call: Invocation) -> int:
    """Everything the cluster knows of a worker."""
    with call.connect() as client:
        worker = client.get(_path(call))
    facts = [(name.replace("_", " "), value) for name, value in worker.items() if name != "id"]
    call.show(worker, Rows(("WORKER", worker["id"]), facts))
    return OK


def remove(call: Invocation) -> int:
    """Take a worker out, or, with `--force`, also one that holds pipelines."""
    worker_id = call.arguments["id"]
    call.confirm(f"{worker_id} is taken out of the cluster", worker_id)
    query: dict[str, Any] = {"force": "true"} if call.arguments["force"] else {}
    with call.connect() as client:
        answer = client.delete(_path(call), **query)
    call.show(answer, Rows((), (), f"{worker_id} is removed"))
    return OK


def _path(call: Invocation) -> str:
    return f"/workers/{quote(call.arguments['id'], safe='')}"
