"""A whole cluster under a round of faults and operations comes back to what was asked of it.

The seed is fresh in each run and stands in the output; `python -m tests.chaos --seed N --minutes M` brings
the same faults and operations again, for as long as one likes.
"""

import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.chaos import report, trial

ROUND: Final = 18.0
"""Seconds of faults; starting the cluster and the calm come on top."""
FEWEST_WRITES: Final = 5
FEWEST_OUTPUTS: Final = 500
"""Fewer prove nothing; a round gives about ten times as many on a free machine."""


@pytest.mark.processes
@pytest.mark.timeout(240)
async def test_a_cluster_comes_back_to_what_was_asked_of_it_and_no_two_copies_put_out(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}, logs in {tmp_path}")
    found = await trial.run(tmp_path, seed=seed, seconds=0, round_seconds=ROUND, progress=print)
    text = report.as_text(found)
    assert not found.complaints, text
    assert found.rounds == 1 and found.acknowledged >= FEWEST_WRITES, text
    assert found.outputs >= FEWEST_OUTPUTS, text
