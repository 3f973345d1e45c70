"""The cluster of docker-compose.cluster.yml, run as processes: three nats-servers, three coordinators, two
workers, TLS and logins everywhere, credentials from files; what a reader of docs/deploy.md does with it, and
two deaths.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.cluster import COORDINATORS, NATS, PEOPLE, WORKERS, Cluster, login
from tests.deploy.compose import Topology, services
from tests.deploy.credentials import DEPLOY, made, needs_openssl
from tests.deploy.fleet import Fleet
from tests.deploy.place import loopback
from tests.support.cluster import poll, varpulis
from tests.support.poll import until
from transport.nats import NatsTransport

pytestmark = [
    pytest.mark.processes,
    needs_openssl,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tmp_path = tmp_path_factory.mktemp("cluster")
    addresses = loopback(list(services()))
    hosts = [f"{name}={addresses[name]}" for name in (*NATS, *COORDINATORS, *WORKERS)]
    secrets = made(tmp_path / "secrets", *hosts, *PEOPLE)
    with Fleet(tmp_path) as fleet:
        cluster = Cluster(Topology(tmp_path / "containers", fleet, secrets, addresses))
        cluster.up()
        yield cluster


def test_who_shows_no_key_or_trusts_another_authority_gets_nothing(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.topology.url("coordinator-0")
    stranger = varpulis("groups", "--url", url, "--tls-ca", str(cluster.ca), cwd=tmp_path)
    assert stranger.returncode == 1 and "key" in stranger.stderr
    (tmp_path / "other").mkdir()
    other = made(tmp_path / "other", "x") / "ca.pem"
    misled = varpulis("groups", "--url", url, "--tls-ca", str(other), cwd=tmp_path)
    assert misled.returncode == 1 and "no TLS" in misled.stderr


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="there is no Prometheus here: apt-get install prometheus"
)
def test_prometheus_scrapes_all_five(cluster: Cluster) -> None:
    cluster.topology.start("prometheus")
    own = f"http://{cluster.topology.hosts['prometheus']}:9090/api/v1/targets"

    def all_scraped() -> bool:
        try:
            found = httpx.get(own, timeout=2, trust_env=False).json()["data"]["activeTargets"]
        except (httpx.HTTPError, ValueError):
            return False
        return len(found) == 5 and all(target["health"] == "up" for target in found)

    poll(all_scraped, timeout=30, what=f"five targets are up\n{cluster.fleet.log('prometheus')[-2000:]}")


async def test_the_cluster_of_the_compose_file_works_and_outlives_a_coordinator_and_a_worker(
    cluster: Cluster,
) -> None:
    heard: list[bytes] = []
    hosts = [cluster.topology.hosts[name] for name in NATS]
    observer = await NatsTransport.connect(login("observer", cluster.topology.secrets, hosts))
    await observer.listen("varpulis.cluster.pipeline.payments.sums._external", lambda m: heard.append(m.data))
    await observer.flush()
    try:
        assert "payments: running" in cluster.ask(
            "deploy", str(DEPLOY / "examples" / "payments.json"), "--wait", "30"
        )
        for cents in (250, 250):
            cluster.ask("inject", "payments", "Payment", "account=a-1", f"cents={cents}")

        first = cluster.leader()
        cluster.fleet.kill(first)
        assert poll(cluster.leader, timeout=30) != first
        cluster.ask("deploy", str(DEPLOY / "examples" / "doors.vpl"))
        assert "level=low" in cluster.ask("inject", "doors", "Door", "badge=b-1", "site=hq", "held_ms=45000")
        cluster.topology.start(first)

        victim = next(name for name, has in cluster.runs_on().items() if "payments/sums" in has)
        cluster.fleet.kill(victim)
        (left,) = set(WORKERS) - {victim}
        poll(lambda: len(cluster.runs_on()[left]) == 3, timeout=30, what="all run on the other worker")
        cluster.ask("inject", "payments", "Payment", "account=a-1", "cents=500")
        await until(lambda: heard, timeout=30, what="a sum that began before the deaths")
        assert [json.loads(each)["fields"]["paid"] for each in heard] == [1000]
        assert "pipeline_placed" in cluster.ask("events", "--about", "payments", "--limit", "1000")
        cluster.healthy(first)
        cluster.topology.start(victim)
        cluster.healthy(victim)
    finally:
        await observer.close()

    said = "".join(path.read_text() for path in cluster.fleet.directory.glob("*.log"))
    for path in (*cluster.topology.secrets.glob("*.password"), *cluster.topology.secrets.glob("*.key")):
        assert path.read_text().split()[-1] not in said, f"{path.name} is in a log"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_wrong_with_the_scraping(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "docker" / "prometheus.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    text = (tmp_path / "prometheus.yml").read_text()
    (tmp_path / "ca.pem").touch()
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/ca.pem", str(tmp_path / "ca.pem")))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
