"""The table of all metrics, read from the two modules that export them.

A module is parsed, never run: every family is made by one call that names it with a literal, with its help
and its labels, so the calls are the table. A test compares the table with what a running cluster exports.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_CLUSTER: Final = "varpulis_cluster_"
_KINDS: Final = {
    "GaugeMetricFamily": "gauge",
    "CounterMetricFamily": "counter",
    "_gauge": "gauge",
    "_level": "gauge",
    "_counter": "counter",
    "_count": "counter",
    "_durations": "histogram",
    "_histogram": "histogram",
}
_LABEL_THIRD: Final = ("_gauge", "_counter")
"""Calls whose third argument is the label."""


@dataclass(frozen=True, slots=True, order=True)
class Family:
    """One metric as Prometheus names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def families(module: str) -> list[Family]:
    """All families of a module of the repository, such as `worker/metrics.py`, by name."""
    return sorted(set(_made_in(ast.parse((_ROOT / module).read_text()))))


def metrics_table() -> str:
    """Both tables: of coordinators, of workers."""
    return "\n".join(
        [
            *_rows("Coordinators", families("coordinator/metrics.py")),
            *_rows("Workers", families("worker/metrics.py")),
        ]
    )


def _rows(title: str, of: list[Family]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| Metric | Type | Labels | What it is |\n|---|---|---|---|"
    for one in of:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        yield f"| `{one.name}` | {one.kind} | {labels} | {one.help} |"
    yield ""


def _made_in(tree: ast.Module) -> Iterator[Family]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=maker), args=[name, ast.Constant(value=str(text)), *_]) if (
                maker in _KINDS
            ):
                full = _name(name, prefixed=maker.startswith("_"))
                if full is not None:
                    kind = _KINDS[maker]
                    suffix = "_total" if kind == "counter" and not full.endswith("_total") else ""
                    yield Family(full + suffix, kind, _labels(node), text)


def _name(node: ast.expr, *, prefixed: bool) -> str | None:
    """The full name; None inside the functions that are handed one."""
    match node:
        case ast.Constant(value=str(name)):
            return _CLUSTER + name if prefixed else name
        case ast.BinOp(left=ast.Name(id="_P"), right=ast.Constant(value=str(name))):
            return _CLUSTER + name
    return None


def _labels(call: ast.Call) -> tuple[str, ...]:
    for keyword in call.keywords:
        if keyword.arg == "labels":
            return tuple(ast.literal_eval(keyword.value))
    if isinstance(call.func, ast.Name) and call.func.id in _LABEL_THIRD:
        return (str(ast.literal_eval(call.args[2])),)
    return ()
