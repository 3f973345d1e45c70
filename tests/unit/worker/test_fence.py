"""Commands older than one seen are refused; those that carry no numbers pass."""

import pytest

from proto_schemas.errors import WireError
from worker import fence
from worker.fence import EpochFence

PIPELINE = ("g", "p")


def test_an_older_term_is_refused_and_both_are_named() -> None:
    guard = EpochFence()
    guard.check(7, None, None)
    with pytest.raises(WireError, match="term 6 is older than term 7") as refused:
        guard.check(6, None, None)
    assert refused.value.code == "stale_epoch"
    assert not refused.value.retryable
    guard.check(7, None, None)


def test_an_older_epoch_is_refused_for_its_pipeline_only() -> None:
    guard = EpochFence()
    guard.check(1, 5, PIPELINE)
    with pytest.raises(WireError, match="epoch 4 is older than epoch 5"):
        guard.check(1, 4, PIPELINE)
    guard.check(1, 4, ("g", "other"))
    guard.check(1, 5, PIPELINE)


def test_a_refused_command_leaves_nothing_behind() -> None:
    guard = EpochFence()
    guard.check(1, 5, PIPELINE)
    with pytest.raises(WireError):
        guard.check(9, 4, PIPELINE)
    guard.check(1, 5, PIPELINE)


def test_a_command_without_term_and_epoch_always_passes() -> None:
    guard = EpochFence()
    guard.check(9, 9, PIPELINE)
    guard.check(None, None, PIPELINE)


def test_the_pipelines_seen_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "CAPACITY", 2)
    guard = EpochFence()
    for name in ("a", "b", "a", "c"):
        guard.check(None, 5, ("g", name))
    guard.check(None, 1, ("g", "b"))
    with pytest.raises(WireError):
        guard.check(None, 1, ("g", "c"))
