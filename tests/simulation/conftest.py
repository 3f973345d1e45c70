"""A directory for the machines' disks, in memory where the system has such a place."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.play import disks_in_memory


@pytest.fixture
def disks() -> Iterator[Path]:
    """A fresh directory, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=disks_in_memory()) as directory:
        yield Path(directory)
