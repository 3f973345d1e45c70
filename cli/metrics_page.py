"""The table of all metrics, read from the modules that export them.

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
    "HistogramMetricFamily": "histogram",
    "gauge": "gauge",
    "level": "gauge",
    "counter": "counter",
    "count": "counter",
    "durations": "histogram",
    "histograms": "histogram",
}
_LABEL_THIRD: Final = ("gauge", "counter", "histograms")
"""Calls whose third argument is the label."""
COORDINATORS: Final = "coordinator/metrics"
WORKERS: Final = "worker/metrics.py"


@dataclass(frozen=True, slots=True, order=True)
class Family:
    """One metric as Prometheus names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def families(where: str) -> list[Family]:
    """All families of a module or a folder of the repository, by name."""
    path = _ROOT / where
    modules = sorted(path.glob("*.py")) if path.is_dir() else [path]
    return sorted({family for module in modules for family in _made_in(ast.parse(module.read_text()))})


def metrics_table() -> str:
    """Both tables: of coordinators, of workers."""
    return "\n".join(
        [
            *_rows("Coordinators", families(COORDINATORS)),
            *_rows("Workers", families(WORKERS)),
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
                full = _name(name, prefixed=not maker.endswith("MetricFamily"))
                if full is not None:
                    kind = _KINDS[maker]
                    suffix = "_total" if kind == "counter" and not full.endswith("_total") else ""
                    yield Family(full + suffix, kind, _labels(node), text)


def _name(node: ast.expr, *, prefixed: bool) -> str | None:
    """The full name; None inside the functions that are handed one."""
    match node:
        case ast.Constant(value=str(name)):
            return _CLUSTER + name if prefixed else name
        case ast.BinOp(left=ast.Name(id="PREFIX"), right=ast.Constant(value=str(name))):
            return _CLUSTER + name
    return None


def _labels(call: ast.Call) -> tuple[str, ...]:
    for keyword in call.keywords:
        if keyword.arg == "labels":
            return tuple(ast.literal_eval(keyword.value))
    if isinstance(call.func, ast.Name) and call.func.id in _LABEL_THIRD:
        return (str(ast.literal_eval(call.args[2])),)
    return ()
