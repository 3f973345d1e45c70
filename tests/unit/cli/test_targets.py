"""What Prometheus is told of a cluster: all that was started, in the jobs that the alerts speak of."""

import json
import re
from pathlib import Path

from cli.up import targets
from cli.up.record import Process, Record
from tests.support.cluster import ROOT

RECORD = Record(cluster_id="c-1", http_port=9100, nats_port=4222, coordinators=2, workers=1)
PROMETHEUS = ROOT / "deploy" / "prometheus"


def with_all(record: Record) -> Record:
    for role, name, port in (
        ("nats", "nats", 4222),
        ("coordinator", "coordinator-1", 9101),
        ("coordinator", "coordinator-0", 9100),
        ("worker", "worker-0", 9120),
        ("generator", "generator", 0),
    ):
        record = record.with_process(Process(role=role, id=name, pid=99_999_999, created=1.0, port=port))
    return record


def read(directory: Path) -> object:
    return json.loads((directory / targets.NAME).read_text())


def test_coordinators_and_workers_are_targets_of_their_jobs_dead_or_alive(tmp_path: Path) -> None:
    targets.write(tmp_path, with_all(RECORD))
    assert read(tmp_path) == [
        {
            "targets": ["127.0.0.1:9100", "127.0.0.1:9101"],
            "labels": {"job": "varpulis-coordinators", "cluster": "c-1"},
        },
        {"targets": ["127.0.0.1:9120"], "labels": {"job": "varpulis-workers", "cluster": "c-1"}},
    ]


def test_what_was_stopped_is_no_target(tmp_path: Path) -> None:
    stopped = Process(role="worker", id="worker-0", port=9120)
    targets.write(tmp_path, with_all(RECORD).with_process(stopped))
    targets.write(tmp_path, RECORD.with_process(stopped))
    assert read(tmp_path) == []


def test_the_jobs_are_those_of_the_alerts_and_the_file_the_one_prometheus_is_pointed_at() -> None:
    spoken_of = set(re.findall(r'job="([^"]+)"', (PROMETHEUS / "alerts.yml").read_text()))
    assert spoken_of <= set(targets.JOBS.values())
    (named,) = re.findall(r"files: \[(.+)\]", (PROMETHEUS / "prometheus.yml").read_text())
    assert (PROMETHEUS / named).resolve() == ROOT / ".varpulis" / targets.NAME
