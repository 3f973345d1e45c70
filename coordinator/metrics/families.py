"""Makers of the families that a coordinator exports: each names one with a literal, its help and its label,
which is what `cli.metrics_page` reads them from.

**Bounds.** A label's values are an enumeration, a route template, a code, the members, or names that may be
shown: of those the first `MAX_NAMED` in order, the others together as `OTHER`. So no name that a user chose,
however many there are, makes more than `MAX_NAMED` + 1 series.
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from transport.durations import Durations, cumulated

PREFIX: Final = "varpulis_cluster_"
MAX_NAMED: Final = 64
OTHER: Final = "other"


def gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """A level for each value of a label."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=(label,))
    for value, amount in values.items():
        family.add_metric((value,), amount)
    return family


def level(name: str, text: str, value: float) -> GaugeMetricFamily:
    """One level."""
    return GaugeMetricFamily(PREFIX + name, text, value)


def counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    """A count for each value of a label."""
    family = CounterMetricFamily(PREFIX + name, text, labels=(label,))
    for value, times in values.items():
        family.add_metric((value,), times)
    return family


def count(name: str, text: str, value: int) -> CounterMetricFamily:
    """One count."""
    return CounterMetricFamily(PREFIX + name, text, value)


def durations(name: str, text: str, seen: Durations) -> HistogramMetricFamily:
    """How long something took."""
    return HistogramMetricFamily(PREFIX + name, text, cumulated(seen), seen.total)


def histograms(name: str, text: str, label: str, seen: Mapping[str, Durations]) -> HistogramMetricFamily:
    """How long something took, for each value of a label."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=(label,))
    for value, each in seen.items():
        family.add_metric((value,), cumulated(each), each.total)
    return family


def named(values: Mapping[str, float]) -> tuple[dict[str, float], int]:
    """The values by name as far as names are shown, the most of the others as `OTHER`; and how many those
    are. Somebody who is called `OTHER` is one of them.
    """
    names = sorted(name for name in values if name != OTHER)
    shown = {name: values[name] for name in names[:MAX_NAMED]}
    rest = [values[name] for name in names[MAX_NAMED:]]
    if OTHER in values:
        rest.append(values[OTHER])
    if rest:
        shown[OTHER] = max(rest)
    return shown, len(rest)
