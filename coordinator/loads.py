"""The measured load of a worker, made calm enough to decide by.

Workers tell their load (0 to 1, the part of their processors that they use) in each heartbeat. Used as it
comes, every burst would send the next pipelines elsewhere, and the burst after that back again. So it is
damped twice: smoothed over about `SMOOTHING` seconds, and then rounded to steps of `STEP` which it leaves
only when it is nearer than a quarter of a step to another one. Between two loads that differ by noise nothing
is to choose, and the number of pipelines decides.
"""

import math
from dataclasses import dataclass
from typing import Final

SMOOTHING: Final = 10.0
"""Seconds after which a change of load counts for 63 %. Longer is calmer, shorter notices sooner."""
STEP: Final = 0.1
"""What differs by less counts as equal."""
_STICKS: Final = 0.75
"""Of a step: how far the smoothed load may be from the step it is in."""


@dataclass(frozen=True, slots=True)
class Load:
    """`smooth`: as smoothed; `step`: what to decide by. Both from 0 to 1."""

    smooth: float = 0.0
    step: float = 0.0

    def then(self, measured: float, seconds: float) -> "Load":
        """After a measurement `seconds` after the last one; nonsense counts as the nearest sense."""
        measured = min(max(measured, 0.0), 1.0) if math.isfinite(measured) else 0.0
        weight = 1 - math.exp(-max(seconds, 0.0) / SMOOTHING)
        smooth = self.smooth + (measured - self.smooth) * weight
        if abs(smooth - self.step) <= STEP * _STICKS:
            return Load(smooth, self.step)
        return Load(smooth, round(round(smooth / STEP) * STEP, 6))


def first(measured: float) -> Load:
    """What a first measurement gives."""
    return Load().then(measured, math.inf)
