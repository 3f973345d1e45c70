"""Virtual time for the engine."""

from collections.abc import Callable

import pysyncobj.syncobj
import pytest


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], float]], None]:
    """Give the engine another clock."""
    return lambda clock: monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", clock)
