"""A harness that finds nothing proves nothing: with one treatment taken away, it must find the fault.

The appends that would need `raft.reconcile` hardly occur while `raft.replication` sends; that treatment, and
replies of a former term, are shown by directed tests in `tests/unit/raft`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from raft.codec import Frame
from raft.correspondence import Correspondence
from raft.entries import EngineEntry
from raft.errors import RaftError
from raft.journal import Journal
from raft.segment import VoteState
from tests.simulation.cluster import Simulation, Violation, Weather
from tests.simulation.test_raft import SPLIT_VOTES, STORM

SetClock = Callable[[Callable[[], float]], None]
Treatment = Callable[[pytest.MonkeyPatch], None]


def without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames leave while what they promise is not on disk yet."""

    def write_only(self: Journal) -> None:
        data = b"".join(self._queue)
        self._queue.clear()
        self._disk.write(self._descriptor, data)
        self._size += len(data)

    monkeypatch.setattr(Journal, "_write_queue", write_only)


def without_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot replaces the whole journal, acknowledged entries after it included."""
    finish = Journal._finish_install

    def forget(self: Journal, old: list[EngineEntry]) -> None:
        finish(self, [])

    monkeypatch.setattr(Journal, "_finish_install", forget)


def without_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests count each time they arrive."""

    def admit(self: Correspondence, frame: Frame) -> bool:
        self._lives[frame.sender] = frame.incarnation
        return self._belongs(frame)

    monkeypatch.setattr(Correspondence, "admits_request", admit)


def without_durable_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart forgets term and vote."""

    def remember_only(self: Journal, term: int, voted_for: str | None) -> None:
        self._vote = VoteState(term, voted_for, self._vote.incarnation)

    monkeypatch.setattr(Journal, "setCurrentTerm", remember_only)


@pytest.mark.parametrize(
    ("take_away", "weather", "seeds"),
    [
        (without_sync, STORM, range(12)),
        (without_suffix, STORM, range(12)),
        (without_order, STORM, range(4)),
        (without_durable_vote, SPLIT_VOTES, range(20, 30)),
    ],
)
def test_each_treatment_taken_away_is_missed(
    take_away: Treatment,
    weather: Weather,
    seeds: range,
    tmp_path: Path,
    set_clock: SetClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_away(monkeypatch)
    for seed in seeds:
        directory = tmp_path / str(seed)
        directory.mkdir()
        try:
            Simulation(seed, directory, weather, set_clock).run(8.0)
        except (Violation, RaftError):
            return
    pytest.fail(f"no seed of {seeds} missed it")
