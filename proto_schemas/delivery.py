"""What a group is promised of the delivery of its events, and which programs can be promised it. Pure.

`at_most_once`: NATS carries events, and nobody repeats them. `at_least_once` and `exactly_once`: a stream of
JetStream holds them, and copies go on from a position in it (`worker.delivery`).
"""

from collections.abc import Sequence
from typing import Final

AT_MOST_ONCE: Final = "at_most_once"
AT_LEAST_ONCE: Final = "at_least_once"
EXACTLY_ONCE: Final = "exactly_once"


def unfit(delivery: str, sources: Sequence[str], sinks: Sequence[str]) -> str:
    """Why a program with these connectors cannot be delivered so; empty when it can."""
    if delivery == AT_MOST_ONCE:
        return ""
    if delivery not in (AT_LEAST_ONCE, EXACTLY_ONCE):
        return f"delivery {delivery!r} is not known: use {AT_MOST_ONCE}, {AT_LEAST_ONCE} or {EXACTLY_ONCE}"
    if sources:
        return (
            f"delivery {delivery}: what .from({sources[0]}) brings is in no stream, and cannot be read "
            "again: lead the subject in by a route from _external with nats_subject"
        )
    if sinks and delivery == EXACTLY_ONCE:
        return (
            f"delivery {delivery}: .to({sinks[0]}) may send an output twice: leave it out, and read the "
            f"pipeline's subject _external in the group's stream; or use {AT_LEAST_ONCE}"
        )
    return ""
