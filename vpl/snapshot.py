"""The state of an engine as plain data, and back: `{"v", "source_sha256", "counters", "vars", "state"}`.

`state` is `{stream: {operation: what its keeper saved}}`, of windows `{"slots": [...], "windows": [[key,
...], ...]}`; times in it are absolute, so what is restored goes on to expire as it would have. Data is read
completely before anything is changed: whatever is wrong with it, the engine stays as it was. Another
program's state is refused unless forced; then what has the same stream, operation and shape here is taken,
and the others start empty.
"""

from collections.abc import Mapping
from typing import Any

from vpl.diagnostics import VplStateError
from vpl.keeper import LOSSES, Keeper, KeeperPlan
from vpl.writing import COUNTERS

VERSION = 1

Keepers = list[tuple[KeeperPlan, Keeper]]


def save(
    source_sha256: str,
    counters: Mapping[str, int],
    variables: Mapping[str, Any],
    keepers: Keepers,
) -> dict[str, Any]:
    """Plain, JSON-able data that later events do not change."""
    state: dict[str, dict[str, Any]] = {}
    for plan, keeper in keepers:
        state.setdefault(plan.stream, {})[plan.operation] = keeper.save()
    return {
        "v": VERSION,
        "source_sha256": source_sha256,
        "counters": dict(counters),
        "vars": dict(variables),
        "state": state,
    }


def load(data: Any, source_sha256: str, keepers: Keepers, *, force: bool) -> tuple[dict[str, int], list[Any]]:
    """The counters, and what each keeper is to continue with; raises `VplStateError`, changes nothing."""
    if not isinstance(data, dict):
        raise _malformed("it is not an object")
    version = data.get("v")
    if version.__class__ is not int or version < 1:
        raise _malformed("it has no version `v`")
    if version > VERSION:
        raise VplStateError(
            f"the checkpoint has version {version}, this engine reads up to {VERSION}: "
            "restore it with a newer release"
        )
    if data.get("source_sha256") != source_sha256 and not force:
        raise VplStateError(
            "the checkpoint was taken from another program (its source_sha256 differs): "
            "deploy the program it came from, or force the restore to keep the windows both have"
        )
    try:
        return _counters(data.get("counters")), _contents(data.get("state"), keepers)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from None


def _malformed(cause: str) -> VplStateError:
    return VplStateError(f"the checkpoint is malformed ({cause}): restore an earlier one, or start without")


def _counters(data: Any) -> dict[str, int]:
    if not isinstance(data, dict):
        raise ValueError("`counters` is not an object")
    counters = {name: data.get(name, 0) for name in (*COUNTERS, *LOSSES)}
    for name, value in counters.items():
        if value.__class__ is not int or value < 0:
            raise ValueError(f"the counter `{name}` is not a count")
    return counters


def _contents(state: Any, keepers: Keepers) -> list[Any]:
    if not isinstance(state, dict) or not all(isinstance(operations, dict) for operations in state.values()):
        raise ValueError("`state` is not an object of objects")
    return [keeper.load(state.get(plan.stream, {}).get(plan.operation)) for plan, keeper in keepers]
