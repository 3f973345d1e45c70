"""The chart: Helm finds nothing wrong, Kubernetes' schemas take what it renders, wrong values are refused,
each reference leads somewhere, and its pods, run as processes, are a cluster whose leader gives leadership
away before it stops.
"""

import functools
import importlib.util
import ssl
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml

from cli.parser import parse
from cli.resolve import Settings
from cli.settings import SETTINGS
from tests.deploy.credentials import DEPLOY, needs_openssl
from tests.deploy.credentials import made as credentials
from tests.deploy.fleet import Fleet
from tests.deploy.place import loopback
from tests.deploy.pods import Node, Pod, pods
from tests.support.cluster import poll, varpulis
from tests.support.nats_server import NatsServer

CHART = DEPLOY / "helm" / "varpulis"
KUBERNETES = ("1.27", "1.31", "1.37")
"""The oldest that the chart takes, one between, and the newest whose schemas are there."""
COORDINATORS = [f"demo-varpulis-coordinator-{n}" for n in range(3)]
WORKERS = [f"demo-varpulis-worker-{n}" for n in range(2)]
PODS = [*COORDINATORS, *WORKERS, "demo-varpulis-prepare"]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("helm_python") is None, reason="Helm is not here: pip install helm-python-sdk"
)
EVERYTHING = {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}}


def rendered(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """All documents of a release `demo` in the namespace `prod`."""
    import helm_python as helm  # of 85 MB, so only where it is used

    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values or {})
        files = chart.render(values or {}, name="demo", namespace="prod")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of(kind: str, documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of a kind, by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


@functools.cache
def every_pod() -> dict[str, Pod]:
    documents = rendered()
    sets = [*of("StatefulSet", documents).values(), *of("Job", documents).values()]
    return {pod.name: pod for each in sets for pod in pods(each)}


def test_these_are_the_pods() -> None:
    assert sorted(every_pod()) == sorted(PODS)


def test_helm_finds_nothing_wrong() -> None:
    import helm_python as helm

    found = helm.lint(str(CHART))
    assert not found["errors"]
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_all_of_it(version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    documents = rendered(EVERYTHING)
    assert len(documents) == 14
    for document in documents:
        if document["kind"] != "ServiceMonitor":  # of the Prometheus operator
            schemas.validate(document, version, strict=True)
    broken = of("StatefulSet", documents)["demo-varpulis-worker"]
    broken["spec"]["replica"] = 2
    with pytest.raises(schemas.ValidationError):
        schemas.validate(broken, version, strict=True)


@pytest.mark.parametrize(
    "values",
    [
        {"coordinators": {"replicas": 2}},
        {"coordinators": {"replicas": 3, "join": True}},
        {"coordinators": {"members": ["a"]}},
        {"coordinators": {"env": {"PATH": "/bin"}}},
        {"image": {"tag": "latest"}},
        {"nats": {"url": ["nats://nats:4222"]}},
        {"nats": {"url": ["tls://user:secret@nats:4222"]}},
        {"checkpoints": {"replicas": 2}},
        {"coordinator": {"replicas": 3}},
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any]) -> None:
    import helm_python as helm

    with pytest.raises(helm.HelmError):
        rendered(values)


@pytest.mark.parametrize("name", PODS)
def test_each_command_variable_and_file_means_something(name: str) -> None:
    pod = every_pod()[name]
    parse(pod.command[1:])
    environ = pod.environment
    settings = Settings(environ=environ)
    assert not settings.unknown_variables
    for setting in SETTINGS:
        if setting.secret and setting.variable in environ:
            assert environ[setting.variable].startswith("file:/run/"), setting.variable
    mounts = [mount["mountPath"] for mount in pod.container["volumeMounts"]]
    for variable, value in environ.items():
        path = value.removeprefix("file:")
        if path.startswith("/"):
            assert any(path.startswith(mount) for mount in mounts), f"{variable}={value}"
    if "lifecycle" in pod.container:
        parse(pod.container["lifecycle"]["preStop"]["exec"]["command"][1:])


@pytest.mark.parametrize("name", PODS)
def test_each_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    """As the policy `restricted` of Kubernetes asks for, and more."""
    pod = every_pod()[name]
    assert pod.spec["securityContext"]["runAsNonRoot"]
    assert pod.spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod.spec["automountServiceAccountToken"] is False
    own = pod.container["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert pod.container["resources"]["limits"]["memory"]


def test_probes_ask_a_port_that_is_listened_on_over_tls() -> None:
    for pod in every_pod().values():
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if (probe := pod.container.get(kind)) is None:
                assert pod.name.endswith("prepare")
                continue
            (port,) = pod.container["ports"]
            role = pod.container["name"]
            assert probe["httpGet"]["port"] == port["name"]
            assert str(port["containerPort"]) == pod.environment[f"VARPULIS_{role.upper()}_HTTP_PORT"]
            assert probe["httpGet"]["scheme"] == "HTTPS"
            assert probe["httpGet"]["path"] == ("/readyz" if kind == "readinessProbe" else "/livez")


def test_whatever_selects_selects_pods_that_are_there() -> None:
    documents = rendered(EVERYTHING)
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of("StatefulSet", documents).values()
    ]
    labels.append(of("Job", documents)["demo-varpulis-prepare"]["spec"]["template"]["metadata"]["labels"])

    def selected(wanted: dict[str, str]) -> int:
        return sum(wanted.items() <= each.items() for each in labels)

    for each in of("Service", documents).values():
        assert selected(each["spec"]["selector"]) == 1
    for each in of("PodDisruptionBudget", documents).values():
        assert selected(each["spec"]["selector"]["matchLabels"]) == 1
        assert each["spec"]["maxUnavailable"] == 1
    policies = [
        each["spec"]["podSelector"]["matchLabels"] for each in of("NetworkPolicy", documents).values()
    ]
    assert all(selected(each) == 1 for each in policies) and len(policies) == len(labels)
    for monitor in of("ServiceMonitor", documents).values():
        wanted = monitor["spec"]["selector"]["matchLabels"] | {"varpulis.io/scrape": "true"}
        found = [
            each
            for each in of("Service", documents).values()
            if wanted.items() <= each["metadata"]["labels"].items()
        ]
        assert len(found) == 1 and found[0]["spec"]["clusterIP"] == "None"
        assert found[0]["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"]
    for name, each in of("StatefulSet", documents).items():
        assert each["spec"]["serviceName"] in of("Service", documents), name
        assert each["spec"]["podManagementPolicy"] == "Parallel", "none is ready before a majority is there"


def test_coordinators_are_never_two_on_one_node_and_a_stop_has_the_time_it_may_take() -> None:
    from coordinator.app import STOP_TIMEOUT
    from worker.app import STOP_WAIT

    sets = of("StatefulSet", rendered({"workers": {"leaveTimeout": 120}}))
    spec = sets["demo-varpulis-coordinator"]["spec"]["template"]["spec"]
    (rule,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    hook = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    _, given = parse(hook[1:])
    assert (
        spec["terminationGracePeriodSeconds"] > given["wait"] + float(given["client.timeout"]) + STOP_TIMEOUT
    )
    workers = sets["demo-varpulis-worker"]["spec"]["template"]["spec"]
    assert workers["terminationGracePeriodSeconds"] > 120 + STOP_WAIT + 5


def test_further_coordinators_join_the_present_ones() -> None:
    present = ["demo-varpulis-coordinator-0", "demo-varpulis-coordinator-1", "demo-varpulis-coordinator-2"]
    values = {"coordinators": {"replicas": 2, "join": True, "members": present}, "workers": {"replicas": 0}}
    more = pods(of("StatefulSet", rendered(values))["demo-varpulis-coordinator"])
    settings = Settings(environ=more[0].environment)
    assert settings["coordinator.join"] and list(settings["coordinator.members"]) == present


# -- its pods as processes


@needs_openssl
@pytest.mark.processes
def test_its_pods_are_a_cluster_whose_leader_gives_leadership_away_before_it_stops(tmp_path: Path) -> None:
    documents = rendered({"checkpoints": {"replicas": 1}, "nats": {"url": ["tls://nats.nats.svc:4222"]}})
    address = loopback(["nats", *COORDINATORS, *WORKERS])
    hosts = [f"{name}={address[name]}" for name in address]
    people = ("operator", "observer", "client", "system")
    keys = credentials(tmp_path / "keys", *hosts, *people, PREFIX="demo-varpulis-")
    names = {"nats.nats.svc": address["nats"], **{name: address[name] for name in (*COORDINATORS, *WORKERS)}}
    names |= {f"{name}.demo-varpulis-coordinator.prod.svc": address[name] for name in COORDINATORS}
    # One certificate for all coordinators would have to name all their addresses here, so each has its own.
    with Fleet(tmp_path) as fleet, _nats(tmp_path, fleet, keys, address["nats"]):
        nodes = {
            name: Node(tmp_path, fleet, names, _secrets(keys, name)) for name in (*COORDINATORS, *WORKERS)
        }
        sets = of("StatefulSet", documents)
        (prepare,) = pods(of("Job", documents)["demo-varpulis-prepare"])
        Node(tmp_path, fleet, names, _secrets(keys, "operator")).run(prepare)
        coordinators = pods(sets["demo-varpulis-coordinator"])
        workers = pods(sets["demo-varpulis-worker"])
        for pod in (*coordinators, *workers):
            nodes[pod.name].start(pod)
        for pod in (*coordinators, *workers):
            _until_ready(pod, address[pod.name], keys, fleet)

        def ask(pod: Pod, *words: str) -> str:
            """As `kubectl exec POD -- varpulis ...`."""
            return nodes[pod.name].run(pod, ["varpulis", *words])

        first = str(msgspec.json.decode(ask(coordinators[0], "raft", "status", "-o", "json"))["leader_id"])
        leader = next(pod for pod in coordinators if pod.name == first)
        other = next(pod for pod in coordinators if pod.name != first)
        hook = leader.container["lifecycle"]["preStop"]["exec"]["command"]
        assert "nothing to give away" in nodes[other.name].run(other, hook)
        nodes[leader.name].run(leader, hook)
        status = msgspec.json.decode(ask(other, "raft", "status", "-o", "json"))
        assert status["leader_id"] not in (None, first)
        assert fleet.end(first) == 0
        program = str(DEPLOY / "examples" / "doors.vpl")
        access = ("--url", f"https://{address[other.name]}:9100", "--tls-ca", str(keys / "ca.pem"))
        done = varpulis("deploy", program, *access, "--api-key-file", str(keys / "admin.key"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "level=low" in ask(other, "inject", "doors", "Door", "badge=b", "site=hq", "held_ms=45000")


def _nats(tmp_path: Path, fleet: Fleet, keys: Path, address: str) -> NatsServer:
    """One server where the release looks for it, with the users of the release."""
    server = NatsServer(
        port=4222,
        host=address,
        tls_cert=keys / "nats.pem",
        tls_key=keys / "nats-key.pem",
        tls_ca=keys / "ca.pem",
        verify=True,
        jetstream=True,
    )
    server.include(keys / "nats-users.conf")
    return server


def _secrets(keys: Path, name: str) -> dict[str, dict[str, Path]]:
    """What docs/deploy.md has the operator make."""
    tls = {"tls.crt": keys / f"{name}.pem", "tls.key": keys / f"{name}-key.pem", "ca.crt": keys / "ca.pem"}
    passwords = {f"{name}.password": keys / f"{name}.password"}
    return {
        "varpulis-keys": {each: keys / each for each in ("admin.key", "worker.key", "cluster.key")},
        "varpulis-nats-coordinators": passwords,
        "varpulis-nats-workers": passwords,
        "varpulis-nats-operator": passwords,
        "varpulis-coordinator-tls": tls,
        "varpulis-worker-tls": tls,
    }


def _until_ready(pod: Pod, address: str, keys: Path, fleet: Fleet) -> None:
    """As the kubelet asks."""
    probe = pod.container["readinessProbe"]["httpGet"]
    (port,) = pod.container["ports"]
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))

    def ready() -> bool:
        assert fleet.runs(pod.name), fleet.log(pod.name)[-3000:]
        url = f"https://{address}:{port['containerPort']}{probe['path']}"
        try:
            return httpx.get(url, verify=context, timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    poll(ready, timeout=60, what=f"{pod.name} is ready\n{fleet.logs()}")
