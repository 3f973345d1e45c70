"""Under every fault in a row, a group that delivers exactly once puts out what it does without any.

`python -m tests.delivery --seed N --events 200000` runs the same for longer.
"""

import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.delivery import trial

EVENTS: Final = 10_000
SECONDS: Final = 8.0
KINDS: Final = ("freeze worker", "move", "kill worker", "restart server", "kill leader")


@pytest.mark.processes
@pytest.mark.timeout(240)
@pytest.mark.parametrize("replicas", [1, 2])
async def test_what_comes_out_under_faults_is_what_comes_out_without_event_for_event(
    tmp_path: Path, replicas: int
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}, logs in {tmp_path}")
    found = await trial.run(
        tmp_path, seed=seed, events=EVENTS, seconds=SECONDS, replicas=replicas, kinds=KINDS
    )
    assert not found.complaints, found
    assert found.faults == list(KINDS) and found.outputs == found.wanted > 300, found
