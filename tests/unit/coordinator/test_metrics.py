"""The page for Prometheus: whatever names users choose, and however many, it stays readable and bounded."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from coordinator.metrics import HttpCounts, Sources, exposition
from coordinator.metrics.families import MAX_NAMED, OTHER, named
from coordinator.state.records import WorkerStatus
from coordinator.worker_commands import WorkerCommands
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Undeploy
from proto_schemas.subjects import Subjects
from raft.counters import Counters
from raft.status import PeerStatus, RaftStatus
from tests.unit.coordinator.stage import Stage
from transport.lag import LoopLag
from transport.stats import Stats

HOSTILE = ('a"} 1\nvarpulis_cluster_up 1', "back\\slash", "new\nline", "{}", "=", "ünï", "\u2028", " ", "'")
AWKWARD = ("other", "__name__", "le", "-", "0", "x" * 60, "instance", "Total", "_")
"""What the rules for names of groups and pipelines let through."""


def status() -> RaftStatus:
    nodes = [PeerStatus("c0", "leader", 7, 0, 0), PeerStatus("c1", "follower", 5, 2, 40)]
    return RaftStatus(True, "c0", "c0", 1, 7, 7, 1, 7, True, nodes, None)


class Page:
    """A stage and the page of its coordinator."""

    def __init__(self) -> None:
        self.stage, self.http, self.raft = Stage(), HttpCounts(), Counters()
        self.nats, self.lag = Stats(), LoopLag()
        self.commands = WorkerCommands(self.stage.workers, Subjects())
        nothing: Any = SimpleNamespace
        self._write = exposition(
            Sources(
                node_id="c0",
                version="0",
                machine=self.stage.machine,
                ledger=self.stage.ledger,
                table=self.stage.table,
                listener=nothing(bad_messages=Counter()),
                loop=self.stage.loop,
                scaling=nothing(current=None),
                webhook=None,
                streams=nothing(clients=0, refused=0, resets=0, let_go=0),
                http=self.http,
                door=nothing(refused=Counter()),
                asked_by_rest=Counter(),
                raft_status=status,
                raft_counters=self.raft,
                nats=self.nats,
                nats_connected=lambda: True,
                commands=self.commands,
                lag=self.lag,
                clock=lambda: self.stage.time,
            )
        )

    def series(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Every sample by name and label values; fails on a page that Prometheus could not read."""
        samples = [
            sample
            for family in text_string_to_metric_families(self._write().decode())
            for sample in family.samples
        ]
        found = {(each.name, tuple(each.labels.values())): each.value for each in samples}
        assert len(found) == len(samples), "a series twice"
        return found

    def of(self, name: str, *labels: str) -> float:
        return self.series()[f"varpulis_cluster_{name}", labels]


async def test_a_thousand_pipelines_with_any_names_make_as_many_series_as_one() -> None:
    page = Page()
    await page.stage.join("w", room=2_000)
    await page.stage.create("g", "p")
    await page.stage.settle()
    before = page.series()
    for number in range(10):
        names = [f"{AWKWARD[n % len(AWKWARD)]}{n}" for n in range(100)]
        await page.stage.create(f"{AWKWARD[number % len(AWKWARD)]}{number}", *names)
    await page.stage.settle(100)
    after = page.series()
    assert after.keys() == before.keys()
    assert after["varpulis_cluster_pipelines", ("running",)] == 1_001
    assert after["varpulis_cluster_placement_duration_seconds_count", ()] > 0


async def test_workers_beyond_the_bound_share_a_series_that_tells_the_oldest_of_them() -> None:
    page = Page()
    workers = [f"w{number:03}{HOSTILE[number % len(HOSTILE)]}" for number in range(MAX_NAMED + 100)]
    await page.stage.join(*workers, OTHER)
    page.stage.time += 9.0
    for worker in [*workers[:-1], OTHER]:
        page.stage.beat(worker)
    page.stage.time += 1.0
    ages = {
        labels[0]: value
        for (name, labels), value in page.series().items()
        if name == "varpulis_cluster_worker_heartbeat_age_seconds"
    }
    assert ages == {**dict.fromkeys(workers[:MAX_NAMED], 1.0), OTHER: 10.0}
    assert page.of("workers_without_series") == 101


async def test_a_dead_worker_has_no_heartbeat_age() -> None:
    page = Page()
    await page.stage.join("a", "b")
    await page.stage.later(5.0, "b")
    assert page.stage.machine.state.workers["a"].status is WorkerStatus.UNHEALTHY
    assert page.of("worker_heartbeat_age_seconds", "b") == 0.0
    assert ("varpulis_cluster_worker_heartbeat_age_seconds", ("a",)) not in page.series()


def test_names_are_shown_as_far_as_there_is_room_and_the_rest_as_its_most() -> None:
    assert named({"b": 1.0, "a": 2.0}) == ({"a": 2.0, "b": 1.0}, 0)
    assert named({OTHER: 3.0}) == ({OTHER: 3.0}, 1)
    shown, hidden = named({f"{n:04}": float(n) for n in range(1_000)})
    assert (len(shown), hidden, shown[OTHER]) == (MAX_NAMED + 1, 1_000 - MAX_NAMED, 999.0)


async def test_what_is_refused_as_too_late_is_counted_by_who_refused_it() -> None:
    page = Page()
    page.stage.workers.answers["w"] = WireError(ErrorCode.STALE_EPOCH, "seen: epoch 9")
    for _ in range(2):
        try:
            await page.commands.undeploy("w", Undeploy(pipeline_id="p", epoch=1))
        except WireError:
            continue
    assert page.of("fenced_commands_total", "worker") == 2
    assert page.of("fenced_commands_total", "state") == 0


def test_a_peer_that_is_no_member_has_no_series() -> None:
    page = Page()
    page.raft.round_trip("c1", 0.002)
    page.raft.round_trip("gone", 0.002)
    peers = {labels[0] for (name, labels) in page.series() if name.endswith("round_trip_seconds_count")}
    assert peers == {"c1"}


def test_the_time_of_requests_is_told_by_the_message_and_the_lag_of_the_loop_by_how_late_it_woke() -> None:
    page = Page()
    page.nats.answered("Deploy", 0.2)
    page.nats.answered("Deploy", 0.3)
    page.lag.woke(due=10.0, now=10.02)
    page.lag.woke(due=11.0, now=10.9)
    assert page.of("nats_request_seconds_count", "Deploy") == 2
    assert page.of("nats_request_seconds_sum", "Deploy") == 0.5
    assert page.of("event_loop_lag_seconds_bucket", "0.025") == 2
    assert page.of("event_loop_lag_seconds_bucket", "0.01") == 1
