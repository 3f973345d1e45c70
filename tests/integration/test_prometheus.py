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

from cli.metrics_page import COORDINATORS, WORKERS, families
from cli.up.ports import free_port_range
from proto_schemas.rest.base import API_BASE
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
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three coordinators and a worker, started in a checkout as our configuration expects it."""
    cluster = Cluster(tmp_path, workers=1)
    cluster.data_dir = tmp_path / ".varpulis"
    with cluster:
        yield cluster


@pytest.fixture
def prometheus(tmp_path: Path, cluster: Cluster) -> Iterator[str]:
    """The URL of a Prometheus that scrapes it with our configuration, as it is but for the interval."""
    binary = program("prometheus")
    place = tmp_path / "deploy" / "prometheus"
    shutil.copytree(DEPLOY, place)
    config = place / "prometheus.yml"
    config.write_text(config.read_text().replace(": 5s", ": 1s"))
    port = free_port_range(1)
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            child.kill()


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
def test_what_alerts_and_panels_speak_of_is_scraped_from_a_running_cluster(
    cluster: Cluster, prometheus: str
) -> None:
    poll(lambda: value(prometheus, "sum(up)") == "4", timeout=60, what="four targets are scraped")
    assert value(prometheus, 'count(up{job="varpulis-workers"})') == "1"
    known = asked(prometheus, "metadata")
    wanted = {re.sub("_(bucket|sum|count)$", "", name) for name in METRICS}
    assert wanted
    assert wanted - set(known) == set()
    ours = {name for name in known if name.startswith("varpulis_")}
    written = {family.name for family in [*families(COORDINATORS), *families(WORKERS)]}
    assert ours - written == set()
    for expression in PANEL_EXPRESSIONS:
        assert asked(prometheus, "query", query=expression) is not None, expression
    poll(
        lambda: value(prometheus, 'sum(varpulis_cluster_raft_state{state="leader"})') == "1", what="a leader"
    )
    poll(lambda: value(prometheus, "count(varpulis_cluster_raft_peer_lag_entries)") == "2", what="its peers")
    lag = 'count({__name__=~"varpulis_(cluster_)?event_loop_lag_seconds_count"} > 0)'
    poll(lambda: value(prometheus, lag) == "4", what="every process looks at its event loop")

    cluster.kill("worker-0")
    poll(lambda: value(prometheus, "sum(up)") == "3", what="one that died is a target that is down")
    cluster.down()
    poll(lambda: value(prometheus, "count(up)") is None, timeout=30, what="what was stopped is none")


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_however_many_paths_are_asked_for_the_requests_stay_a_few_series(cluster: Cluster) -> None:
    def series() -> set[str]:
        page = httpx.get(f"{cluster.urls[0]}/metrics", trust_env=False).text
        return {line.rpartition(" ")[0] for line in page.splitlines() if "http_requests_total{" in line}

    with httpx.Client(base_url=cluster.urls[0], trust_env=False) as client:

        def ask(number: int) -> None:
            for path in (f"/nothing-{number}", f"{API_BASE}/workers/w-{number}", f"/a/{number}%22%0a"):
                client.get(path)

        ask(-1)
        series()
        before = series()
        for number in range(100):
            ask(number)
        assert series() == before
