"""A drill from the command line, on real processes."""

import json
import re
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, varpulis

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


def test_an_upgrade_needs_a_release_to_begin_with(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "rolling-upgrade", cwd=tmp_path)
    assert done.returncode == 2 and "--previous" in done.stderr
    done = varpulis("drill", "run", "rolling-upgrade", "--previous", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "is no checkout" in done.stderr


def test_a_leader_that_nobody_hears_is_replaced_and_the_report_says_so(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "partition-mute", "--rounds", "1", "-o", "html", cwd=tmp_path)
    assert done.stdout.startswith("<!doctype html>"), done.stderr
    assert "partition-mute" in done.stdout and done.stdout.count("<svg") == 2
    assert re.search(r"<td>events_doubled</td><td class=\"n\">0</td>", done.stdout)


def test_a_coordinator_with_a_full_disk_gives_way(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "full-disk", "--rounds", "1", "-o", "json", cwd=tmp_path)
    assert done.stdout, done.stderr
    (measured,) = json.loads(done.stdout)["full-disk"]["rounds"]
    assert measured["election_s"] is not None and measured["first_write_s"] is not None
    assert measured["events_lost"] == measured["events_doubled"] == 0


def test_against_a_running_cluster_a_drill_asks_first_measures_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.up()
        command = ("drill", "run", "all", "--against", cluster.urls[0], "--rounds", "1", "-o", "json")
        asked = varpulis(*command, cwd=tmp_path)
        assert asked.returncode == 2 and "--yes" in asked.stderr
        done = varpulis(*command, "--yes", cwd=tmp_path)
        results = json.loads(done.stdout)
        assert set(results) == {"leader-transfer", "worker-drain", "rebalance"}, done.stderr
        for result in results.values():
            (measured,) = result["rounds"]
            assert measured["longest_write_s"] is not None and measured["longest_event_s"] is not None
            assert measured["events_lost"] == measured["events_doubled"] == measured["requests_failed"] == 0
        assert results["leader-transfer"]["rounds"][0]["election_s"] is not None
        assert results["worker-drain"]["rounds"][0]["drained_s"] is not None
        with cluster.client() as client:
            assert client.get("/pipeline-groups")["total"] == client.get("/connectors")["total"] == 0
            assert not any(worker["cordoned"] for worker in client.get("/workers")["workers"])


def test_a_fault_that_the_api_cannot_make_is_refused_against_a_running_cluster(tmp_path: Path) -> None:
    done = varpulis("drill", "run", "leader-kill", "--against", "http://127.0.0.1:1", "--yes", cwd=tmp_path)
    assert done.returncode == 2 and "varpulis drill list" in done.stderr
