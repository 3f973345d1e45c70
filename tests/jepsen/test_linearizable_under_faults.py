"""Real coordinators are killed, frozen and cut off for a minute, and what the clients saw is linearizable.

The seed is fresh in each run and stands in the output; `python -m tests.jepsen --seed N` brings the same
faults again, for as long as one likes. On failure the history is kept and can be checked again alone.
"""

import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.jepsen import report, trial

SECONDS: Final = 55.0
"""Of faults; starting, the last reads and the verdict come on top."""
FEWEST_WRITES: Final = 100
"""Acknowledged ones. A minute gives thousands on a free machine; fewer prove nothing."""


@pytest.mark.processes
@pytest.mark.timeout(240)
async def test_what_clients_see_is_linearizable_while_coordinators_links_and_nats_fail(
    tmp_path: Path,
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}, history and logs in {tmp_path}")
    found = await trial.run(tmp_path, seed=seed, seconds=SECONDS, progress=print)
    text = report.as_text(found)
    assert not found.complaints, text
    assert found.linearizable, text
    assert len(found.harms) >= 3 and len(found.acknowledged) >= FEWEST_WRITES, text
