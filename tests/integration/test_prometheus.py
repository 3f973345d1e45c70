"""A real Prometheus scrapes a real cluster with our rules and asks what our dashboards ask: the rules parse,
fire, resolve, all speak of metrics that exist, and each alert has a chapter that says what to do.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.metrics_page import families
from cli.up.ports import free_port_range
from tests.support.cluster import ROOT, Cluster, poll

DEPLOY = ROOT / "deploy" / "prometheus"
RULES = (DEPLOY / "alerts.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
RULE_EXPRESSIONS = re.findall(r"expr: >-\n *(.+)", RULES)
BOARDS = [
    json.loads(path.read_text()) for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
]
PANEL_EXPRESSIONS = [
    target["expr"] for board in BOARDS for panel in board["panels"] for target in panel["targets"]
]
METRICS = set(re.findall(r"\bvarpulis_\w+", " ".join([*RULE_EXPRESSIONS, *PANEL_EXPRESSIONS])))
CHAPTERS = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
RUNBOOKS = re.findall(r"runbook_url: docs/runbooks.md#(\w+)", RULES)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert ALERTS
    assert CHAPTERS == ALERTS
    assert [alert.lower() for alert in ALERTS] == RUNBOOKS


def test_no_two_dashboards_share_an_id() -> None:
    assert len({board["uid"] for board in BOARDS}) == len(BOARDS) == 4


def test_every_alert_is_shown_to_fire_and_to_resolve() -> None:
    shown = re.findall(r"- name: (\w+)", (DEPLOY / "alerts_test.yml").read_text())
    assert shown == ALERTS


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes a cluster of three coordinators and a worker as we say."""
    binary = program("prometheus")
    with Cluster(tmp_path, workers=1) as cluster:
        shutil.copy(DEPLOY / "alerts.yml", tmp_path)
        (tmp_path / "prometheus.yml").write_text(configured(cluster))
        port = free_port_range(1)
        command = [
            binary,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                child.kill()


def configured(cluster: Cluster) -> str:
    """Our configuration with this cluster's addresses."""
    text = (DEPLOY / "prometheus.yml").read_text().replace(": 5s", ": 1s")
    for name, ids in (("coordinators", cluster.coordinators), ("workers", cluster.workers)):
        targets = ", ".join(cluster.url(each).removeprefix("http://") for each in ids)
        text, made = re.subn(
            rf"(varpulis-{name}\n    static_configs:\n      - targets: )\[.*\]", rf"\1[{targets}]", text
        )
        assert made == 1
    return text


def asked(url: str, path: str, **query: str) -> Any:
    """What its API answers; None while it does not."""
    try:
        answer = httpx.get(f"{url}/api/v1/{path}", params=query, timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return None
    return answer.json()["data"] if answer.status_code == 200 else None


def value(url: str, expression: str) -> str | None:
    """The one value of an expression; None while there is none."""
    answer = asked(url, "query", query=expression)
    return str(answer["result"][0]["value"][1]) if answer and answer["result"] else None


@pytest.mark.processes
@pytest.mark.timeout(240)
def test_what_alerts_and_panels_speak_of_is_scraped_from_a_running_cluster(prometheus: str) -> None:
    poll(lambda: value(prometheus, "sum(up)") == "4", timeout=60, what="four targets are scraped")
    known = asked(prometheus, "metadata")
    wanted = {name.removesuffix("_bucket") for name in METRICS}
    assert wanted
    assert wanted - set(known) == set()
    ours = {name for name in known if name.startswith("varpulis_")}
    written = {
        family.name for family in [*families("coordinator/metrics.py"), *families("worker/metrics.py")]
    }
    assert ours - written == set()
    for expression in PANEL_EXPRESSIONS:
        assert asked(prometheus, "query", query=expression) is not None, expression
    poll(
        lambda: value(prometheus, 'sum(varpulis_cluster_raft_state{state="leader"})') == "1", what="a leader"
    )
    poll(lambda: value(prometheus, "count(varpulis_cluster_raft_peer_lag_entries)") == "2", what="its peers")
