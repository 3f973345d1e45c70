"""A drill from the command line, on real processes."""

import json
from pathlib import Path

import pytest

from tests.support.cluster import varpulis

pytestmark = pytest.mark.processes


def test_a_killed_leader_is_replaced_and_no_event_and_no_request_is_lost(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "leader-kill", "--rounds", "1", "-o", "json", cwd=tmp_path)
    assert done.stdout, done.stderr
    (measured,) = json.loads(done.stdout)["leader-kill"]["rounds"]
    assert measured["election_s"] is not None and measured["first_write_s"] is not None
    assert measured["events_lost"] == measured["events_doubled"] == measured["requests_failed"] == 0


def test_a_drill_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "leader-kil", cwd=tmp_path)
    assert done.returncode == 2
    assert "varpulis drill list" in done.stderr
