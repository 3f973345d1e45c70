"""The state of an engine as plain data, and back: `{"v", "source_sha256", "counters", "vars", "state"}`.

`state` is `{stream: {"window": {"slots": [...], "windows": [[key, ...], ...]}}}`; times in it are absolute,
so what is restored goes on to expire as it would have. Data is read completely before anything is changed:
whatever is wrong with it, the engine stays as it was. Another program's state is refused unless forced;
then the windows whose stream and slots are the same here are taken, and the others start empty.
"""

from collections.abc import Mapping
from typing import Any

from vpl.compile import COUNTERS, WindowPlan
from vpl.diagnostics import VplStateError
from vpl.windows import Window, Windows

VERSION = 1


def save(
    source_sha256: str,
    counters: Mapping[str, int],
    variables: Mapping[str, Any],
    windows: list[tuple[WindowPlan, Windows]],
) -> dict[str, Any]:
    """Plain, JSON-able data that later events do not change."""
    state: dict[str, dict[str, Any]] = {}
    for plan, opened in windows:
        state.setdefault(plan.stream, {})[plan.operation] = opened.save()
    return {
        "v": VERSION,
        "source_sha256": source_sha256,
        "counters": dict(counters),
        "vars": dict(variables),
        "state": state,
    }


def load(
    data: Any, source_sha256: str, windows: list[tuple[WindowPlan, Windows]], *, force: bool
) -> tuple[dict[str, int], list[dict[Any, Window]]]:
    """The counters, and the open windows of each of `windows`; raises `VplStateError`, changes nothing."""
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
        return _counters(data.get("counters")), _windows(data.get("state"), windows)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from None


def _malformed(cause: str) -> VplStateError:
    return VplStateError(f"the checkpoint is malformed ({cause}): restore an earlier one, or start without")


def _counters(data: Any) -> dict[str, int]:
    if not isinstance(data, dict):
        raise ValueError("`counters` is not an object")
    counters = {name: data.get(name, 0) for name in (*COUNTERS, "window_evicted")}
    for name, value in counters.items():
        if value.__class__ is not int or value < 0:
            raise ValueError(f"the counter `{name}` is not a count")
    return counters


def _windows(state: Any, windows: list[tuple[WindowPlan, Windows]]) -> list[dict[Any, Window]]:
    if not isinstance(state, dict) or not all(isinstance(operations, dict) for operations in state.values()):
        raise ValueError("`state` is not an object of objects")
    loaded: list[dict[Any, Window]] = []
    for plan, opened in windows:
        data = state.get(plan.stream, {}).get(plan.operation)
        if data is not None and (not isinstance(data, dict) or not isinstance(data.get("slots"), list)):
            raise ValueError(f"the window of `{plan.stream}` does not say what its slots are")
        same = data is not None and data["slots"] == list(plan.slots)
        loaded.append(opened.load(data) if same else {})
    return loaded
