"""What the world does to a cluster: one frozen record for all knobs, and the named weathers that tests use.

A weather is a family of faults; a seed picks one run of it. Rates of frames are probabilities, rates of
faults are per virtual second for the whole cluster, times are virtual seconds, sizes are bytes.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Weather:
    """One family of runs."""

    name: str
    nodes: int = 3

    # frames
    loss: float = 0.02
    double: float = 0.02
    late: float = 0.01
    latest: float = 0.3
    """A late frame is late by up to this much, others by some milliseconds."""
    awkward: float = 0.0
    """Share of appends after which the leader sends one more as another implementation would: legal, and
    behind the end of the log, or over what was sent before.
    """

    # machines
    power_cuts: float = 0.5
    torn_writes: float = 0.5
    """Power cuts between two verbs of the disk, or in the middle of one."""
    kills: float = 0.0
    """The process dies, the machine and what its system holds in memory stay."""
    pauses: float = 0.0
    """The process stands still (SIGSTOP), and what arrives meanwhile waits."""
    jumps: float = 0.0
    """A clock jumps forward by up to 2 s."""
    clock_spread: float = 0.0
    """Each clock runs at a rate between 1 - spread and 1 + spread."""
    full_disks: float = 0.0
    slow_disks: float = 0.0
    """For a while each sync takes up to `slowest_sync`."""
    slowest_sync: float = 0.15
    slow_files: float = 0.0
    """Share of snapshots and bases that take up to `slowest_file` to be written."""
    slowest_file: float = 2.5
    cuts: float = 1.0
    """Links between two groups are cut, both ways or one way."""
    longest_outage: float = 0.8

    # work
    clients: int = 8
    think: float = 0.05
    """Mean time between an answer and the client's next operation."""
    keys: int = 4
    defects: float = 0.02
    """Share of commands on which the state machine raises."""
    largest_command: int = 200
    transfers: float = 0.3
    changes: float = 0.0
    """Changes of members per second: one is added, removed, or replaced by a new one."""

    # settings of the nodes
    miniature: bool = True
    """Segments, chunks and batches are small (`tests.simulation.miniature`)."""
    snapshot_every: int = 40
    retained: int = 5
    heartbeat: float = 0.04
    election_min: float = 0.16
    election_spread: float = 0.16
    leader_fallback: float = 0.4

    def calmed(self) -> "Weather":
        """The same cluster, with nothing going wrong any more."""
        return replace(
            self, loss=0, double=0, late=0, awkward=0, power_cuts=0, torn_writes=0, kills=0, pauses=0,
            jumps=0, full_disks=0, slow_disks=0, slow_files=0, cuts=0,
            transfers=0, changes=0,
        )  # fmt: skip


STORM = Weather("storm")
CALM = replace(STORM.calmed(), name="calm")
FIVE = Weather("five", nodes=5)
SEVEN = Weather("seven", nodes=7, clients=4)
LARGE = Weather(
    "large", miniature=False, largest_command=60_000, snapshot_every=60, loss=0.05, late=0.05, keys=3,
    clients=8, think=0.03,
)  # fmt: skip
COMPACTING = Weather(
    "compacting", snapshot_every=12, retained=0, loss=0.05, double=0.1, late=0.1, power_cuts=0.3,
    kills=0.3, cuts=1.5, longest_outage=0.4, clients=10, think=0.02,
)  # fmt: skip
LAGGING = Weather(
    "lagging", snapshot_every=12, retained=0, loss=0.05, double=0.1, late=0.4, latest=0.2, power_cuts=0.25,
    torn_writes=0, cuts=0, transfers=0, clients=10, think=0.02, heartbeat=0.02,
)  # fmt: skip
SINGLE = Weather("single", nodes=1, cuts=0, power_cuts=0.7, torn_writes=0.7)
SPLIT_VOTES = Weather(
    "split-votes", loss=0.0, double=0.2, late=0.3, latest=0.03, power_cuts=10.0, torn_writes=7.5, cuts=15.0,
    longest_outage=0.008, heartbeat=0.02, election_min=0.07, election_spread=0.004, leader_fallback=0.1,
    transfers=0,
)  # fmt: skip
STALE_LEADERS = Weather(
    "stale-leaders", loss=0.0, double=0.05, late=0.1, latest=0.5, power_cuts=0.1, torn_writes=0, cuts=3.0,
    transfers=1.0, leader_fallback=1.5, keys=2, clients=12, think=0.01,
)  # fmt: skip
CLOCKS = Weather("clocks", clock_spread=0.3, jumps=2.0, cuts=2.0)
PAUSES = Weather("pauses", pauses=2.0, kills=0.5, clients=8)
DISKS = Weather("disks", full_disks=0.4, slow_disks=0.8, kills=0.3, clients=8)
AWKWARD = Weather(
    "awkward", nodes=5, awkward=0.6, late=0.1, double=0.1, cuts=6.0, torn_writes=1.0, longest_outage=0.4,
    transfers=1.0, snapshot_every=20, retained=4,
)  # fmt: skip
LATE = Weather("late", late=0.2, latest=2.0, double=0.2, cuts=3.0, nodes=5)
CHANGES = Weather(
    "changes", changes=2.0, cuts=0.6, power_cuts=0.4, torn_writes=0.6, kills=0.2, longest_outage=0.5,
    slow_files=0.15,
)  # fmt: skip
SLEEPERS = Weather(
    "sleepers", changes=2.0, cuts=0.1, power_cuts=0.1, torn_writes=0.1, kills=0.2, pauses=0.1,
    longest_outage=3.0, snapshot_every=20, retained=2, slow_files=0.1,
)  # fmt: skip
"""Members miss one change or more, and come after."""
WANDERING = Weather(
    "wandering", changes=3.0, late=0.1, latest=2.0, double=0.1, cuts=1.0, power_cuts=0.3, transfers=1.0,
    longest_outage=0.4, think=0.02,
)  # fmt: skip
"""Frames of one generation arrive in the next."""
EVERYTHING = Weather(
    "everything", nodes=5, awkward=0.1, late=0.05, kills=0.3, pauses=0.5, jumps=0.5, clock_spread=0.2,
    full_disks=0.2, slow_disks=0.3, snapshot_every=30, largest_command=5_000, changes=0.7, slow_files=0.2,
)  # fmt: skip

WEATHERS = {
    weather.name: weather
    for weather in (
        STORM, FIVE, SEVEN, LARGE, COMPACTING, LAGGING, SINGLE, SPLIT_VOTES, STALE_LEADERS, CLOCKS, PAUSES,
        DISKS, AWKWARD, LATE, CHANGES, SLEEPERS, WANDERING, EVERYTHING, CALM,
    )
}  # fmt: skip
