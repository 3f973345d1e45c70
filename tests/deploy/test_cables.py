"""The cluster of docker-compose.cluster.yml with a network namespace for each of its services, and what
only a network shows: cables that are pulled. Nobody closes a connection then, and nobody is refused one.

Numbers pass through two groups all the while (see `traffic`). Whatever was pulled, in the end nothing has
come out twice, and where delivery is exactly once nothing is missing either.
"""

import json
import re
import time
from collections.abc import Iterator
from itertools import chain

import pytest

from tests.deploy import traffic
from tests.deploy.cluster import COORDINATORS, NATS, WORKERS, Cluster
from tests.deploy.compose import VISITOR, Topology, services
from tests.deploy.credentials import DEPLOY, made, needs_openssl
from tests.deploy.fleet import Fleet
from tests.deploy.namespaces import Network, why_not
from tests.support.cluster import poll

pytestmark = [pytest.mark.processes, needs_openssl]

WITHIN = 20.0
"""Seconds that docs/failover.md allows for convergence, and more than it allows for each step before."""
STREAM_WITHIN = 60.0
"""Seconds in which JetStream, whose own affair it is, has a leader of each stream again; ten are usual."""
IN_A_ROW = 50
"""Numbers, none of which is lost: if one in two were, that would not happen by chance."""
_FETCH = """
import ssl, sys, urllib.request
tls = ssl.create_default_context(cafile=sys.argv[2])
print(urllib.request.urlopen(sys.argv[1], timeout=5, context=tls).read().decode())
"""


class Wired(Cluster):
    """The cluster in a network, with numbers that pass through it."""

    def __init__(self, topology: Topology, network: Network) -> None:
        super().__init__(topology)
        self.network = network

    def begin(self) -> None:
        """Deploy the groups and let numbers pass."""
        visitor, secrets = self.topology.visitor, self.topology.secrets
        for group in traffic.GROUPS:
            file = visitor.root / f"{group}.json"
            file.write_text(json.dumps(traffic.spec(group)))
            assert "running" in self.ask("deploy", str(file), "--wait", "30")
        words = ("python", "-m", "tests.deploy.traffic", str(secrets), *NATS)
        self.fleet.start(VISITOR, visitor.command(words), {})
        self.pass_again()

    def notes(self, what: str) -> list[traffic.Note]:
        return traffic.notes(self.fleet.log(VISITOR))[what]

    def pass_again(self, within: float = STREAM_WITHIN) -> dict[str, float]:
        """Wait until numbers that are sent from now on come out of both groups; when the first did."""
        since = time.monotonic()

        def first(group: str) -> float:
            sent = [note.n for note in self.notes(f"{group} sent") if note.at > since]
            out = [note.at for note in self.notes(f"{group} out") if sent and note.n >= sent[0]]
            return min(out, default=0.0)

        def passed() -> bool:
            return all(map(first, traffic.GROUPS))

        poll(passed, timeout=within, what=f"numbers pass\n{self.fleet.logs()}")
        return {group: first(group) for group in traffic.GROUPS}

    def keep_passing(self) -> None:
        """Wait until all of so many numbers in a row have come out of `plain`."""

        def all_out() -> bool:
            out = {note.n for note in self.notes("plain out")}
            sent = [note.n for note in self.notes("plain sent")][-2 * IN_A_ROW : -IN_A_ROW // 2]
            return len(sent) > IN_A_ROW and out.issuperset(sent[-IN_A_ROW:])

        poll(all_out, timeout=WITHIN, what=f"{IN_A_ROW} numbers in a row pass")

    def settle(self) -> None:
        """Wait until the workers run one copy of each pipeline, and what was sent is out: none of it twice,
        nor missing where that is promised."""

        def alone() -> bool:
            assigned = sorted(chain(*self.runs_on().values()))
            return assigned == sorted(traffic.PIPELINES) and sum(map(self.copies, WORKERS)) == len(assigned)

        poll(alone, timeout=WITHIN, what=f"one copy of each\n{self.fleet.logs()}")
        sent = self.notes("exact sent")[-1].n
        poll(lambda: self.notes("exact out")[-1].n >= sent, timeout=STREAM_WITHIN, what=f"{sent} comes out")
        exact = [note.n for note in self.notes("exact out")]
        assert exact == list(range(len(exact))), "each number once, in order"
        plain = [note.n for note in self.notes("plain out")]
        assert len(plain) == len(set(plain)), "no number twice"

    def fetch(self, name: str, url: str) -> str:
        """What a service answers to who asks beside it."""
        words = ("python", "-c", _FETCH, url, str(self.ca))
        done = self.topology.places[name].run(words, {})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def gauge(self, worker: str, sample: str) -> int:
        """A number among the metrics of a worker."""
        metrics = self.fetch(worker, "https://127.0.0.1:9120/metrics")
        (found,) = re.findall(rf"^{re.escape(sample)} (\d+)", metrics, re.MULTILINE)
        return int(found)

    def copies(self, worker: str) -> int:
        """How many pipelines it runs, by what it says itself."""
        return self.gauge(worker, 'varpulis_pipelines{state="running"}')

    def server_of(self, name: str) -> str:
        """The nats-server to which a process is connected."""
        for server in NATS:
            known = json.loads(self.fetch(server, "http://127.0.0.1:8222/connz"))["connections"]
            if name in [connection["name"] for connection in known]:
                return server
        raise AssertionError(f"{name} is connected to none")


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    if reason := why_not():
        pytest.skip(f"no network namespaces here: {reason}")
    directory = tmp_path_factory.mktemp("wired")
    machines = [*services(), VISITOR]
    secrets = made(directory / "secrets")
    with Network(directory, machines) as network, Fleet(directory) as fleet:
        hosts = {name: name for name in machines}
        wired = Wired(Topology(directory / "containers", fleet, secrets, hosts, network), network)
        wired.up()
        wired.begin()
        yield wired


def test_a_leader_whose_cable_is_pulled_is_followed_by_another_and_follows_it_when_it_is_back(
    wired: Wired,
) -> None:
    first = COORDINATORS[0]  # whom every command asks before the others
    if wired.leader() != first:
        wired.ask("raft", "transfer", first)
    wired.network.pull(first)
    pulled = time.monotonic()
    wired.ask("deploy", str(DEPLOY / "examples" / "doors.vpl"))
    print(f"{time.monotonic() - pulled:.1f} s until another coordinator acknowledged a write")
    assert wired.leader() != first

    own = ("--url", "https://127.0.0.1:9100", "--tls-ca", str(wired.ca), "--timeout", "2")
    key = ("--api-key-file", str(wired.topology.secrets / "admin.key"))
    orders = str(DEPLOY / "examples" / "orders.json")
    alone = wired.topology.places[first].run(("varpulis", "deploy", orders, "--wait", "0", *own, *key), {})
    assert alone.returncode != 0, "a coordinator acknowledged a write that no other one knows of"
    assert not wired.topology.healthy(first)
    wired.pass_again()

    wired.network.plug(first)
    plugged = time.monotonic()
    wired.healthy(first)
    print(f"{time.monotonic() - plugged:.1f} s until it was ready again")
    groups = wired.topology.places[first].run(("varpulis", "groups", *own, *key), {}).stdout
    assert "doors" in groups and "orders" not in groups, groups
    wired.ask("undeploy", "doors")
    wired.settle()


def test_what_ran_on_a_worker_whose_cable_is_pulled_runs_elsewhere_and_nothing_comes_out_twice(
    wired: Wired,
) -> None:
    victim, other = WORKERS
    for pipeline in wired.runs_on()[other]:
        wired.ask("migrate", pipeline, "--to", victim, "--wait", "30")
    count = len(traffic.PIPELINES)
    assert (wired.copies(victim), wired.copies(other)) == (count, 0)

    wired.network.pull(victim)
    pulled = time.monotonic()
    poll(lambda: wired.copies(other) == count, timeout=WITHIN, what=f"all run on {other}")
    first = wired.pass_again()
    for group, at in first.items():
        print(f"{group}: {at - pulled:.1f} s until numbers passed through {other}")
    wired.keep_passing()
    assert wired.copies(victim) == count, "nobody can tell it to stop"
    assert wired.gauge(victim, "varpulis_lease_open") == 0

    wired.network.plug(victim)
    plugged = time.monotonic()
    wired.healthy(victim)
    print(f"{time.monotonic() - plugged:.1f} s until it was ready again")
    wired.settle()
    print(f"{time.monotonic() - plugged:.1f} s until one copy of each ran")
    assert len(wired.runs_on()[other]) == count


def test_who_was_connected_to_a_nats_server_whose_cable_is_pulled_goes_on_with_another_one(
    wired: Wired,
) -> None:
    (worker,) = (name for name, has in wired.runs_on().items() if "plain/numbers" in has)
    victim = wired.server_of(worker)
    wired.network.pull(victim)
    pulled = time.monotonic()
    wired.ask("deploy", str(DEPLOY / "examples" / "doors.vpl"), "--wait", "30")
    print(f"{time.monotonic() - pulled:.1f} s until a group that was deployed meanwhile ran")
    for group, at in wired.pass_again().items():
        print(f"{group}: {at - pulled:.1f} s until numbers passed")
    wired.keep_passing()
    print(f"{time.monotonic() - pulled:.1f} s until {IN_A_ROW} in a row had passed")
    wired.healthy(*COORDINATORS, *WORKERS)
    wired.ask("undeploy", "doors")
    wired.settle()

    wired.network.plug(victim)
    wired.healthy(*NATS)
    wired.settle()
