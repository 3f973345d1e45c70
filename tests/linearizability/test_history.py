"""What a recorder makes of what clients tell it, and what a file keeps."""

from pathlib import Path

import pytest

from tests.linearizability.__main__ import main
from tests.linearizability.checker import check
from tests.linearizability.history import NotPending, Operation, Recorder, load, save
from tests.linearizability.simulated import Load, simulated
from tests.linearizability.story import cas, read, write


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_read_has_the_value_it_gave_and_a_write_the_one_it_was_invoked_with() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    reading, writing = recorder.invoke(1, "x", "read"), recorder.invoke(2, "x", "write", 7)
    clock.now = 1.0
    recorder.ok(reading, 5)
    recorder.ok(writing)
    assert [(one.kind, one.value) for one in recorder.history()] == [("read", 5), ("write", 7)]
    assert all(one.returned is not None and one.returned >= 1.0 for one in recorder.history())


def test_a_failed_operation_leaves_no_trace() -> None:
    recorder = Recorder(Clock())
    recorder.fail(recorder.invoke(1, "x", "write", 7))
    assert recorder.history() == []


def test_unknown_and_pending_changes_are_kept_and_such_reads_are_not() -> None:
    recorder = Recorder(Clock())
    recorder.unknown(recorder.invoke(1, "x", "write", 7))
    recorder.unknown(recorder.invoke(2, "x", "read"))
    recorder.invoke(3, "x", "cas", 9, 7)
    recorder.invoke(4, "x", "read")
    assert [(one.process, one.returned) for one in recorder.history()] == [(1, None), (3, None)]


def test_a_refused_cas_is_kept_as_what_it_saw() -> None:
    recorder = Recorder(Clock())
    recorder.mismatch(recorder.invoke(1, "x", "cas", 9, 7))
    (operation,) = recorder.history()
    assert (operation.kind, operation.value, operation.expected) == ("mismatch", None, 7)


def test_an_operation_ends_once() -> None:
    recorder = Recorder(Clock())
    token = recorder.invoke(1, "x", "write", 7)
    recorder.unknown(token)
    with pytest.raises(NotPending):
        recorder.ok(token)


@pytest.mark.parametrize("backwards", [0.0, -5.0], ids=["stands-still", "jumps-back"])
def test_the_order_of_events_is_kept_when_the_clock_does_not_move_on(backwards: float) -> None:
    """A stale read must be seen even if all happens within one instant of a virtual clock."""
    clock = Clock()
    recorder = Recorder(clock)
    for value in (1, 2):
        recorder.ok(recorder.invoke(1, "x", "write", value))
        clock.now += backwards
    recorder.ok(recorder.invoke(2, "x", "read"), 1)
    assert check(recorder.history()).ok is False


def test_a_return_before_the_invocation_is_refused() -> None:
    with pytest.raises(ValueError, match="before it was invoked"):
        write(1, 1, invoked=2, returned=1)


def test_a_saved_history_comes_back_the_same(tmp_path: Path) -> None:
    history = [
        write(1, ("a", 1, (None, 2.5)), 0.1, None),
        read(2, "ü\n", 0.2, 0.3),
        cas(3, None, 3, 0.1 + 0.2, 1e9),
    ]
    save(history, tmp_path / "history.jsonl")
    assert load(tmp_path / "history.jsonl") == history


@pytest.mark.parametrize(("seen", "code"), [(2, 0), (1, 1)])
def test_the_command_prints_the_verdict_on_a_file(
    seen: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save([write(1, 1, 0, 1), write(1, 2, 2, 3), read(2, seen, 4, 5)], tmp_path / "history.jsonl")
    assert main([str(tmp_path / "history.jsonl")]) == code
    assert ("linearizable: 3 operations" in capsys.readouterr().out) is (code == 0)


def test_the_command_says_when_the_time_was_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(simulated(1, Load(operations=6000, clients=10)), tmp_path / "history.jsonl")
    assert main([str(tmp_path / "history.jsonl"), "0"]) == 2
    assert "undecided for 1 of 1 keys" in capsys.readouterr().out


def test_the_command_explains_its_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "usage" in capsys.readouterr().err


def test_values_that_cannot_be_remembered_are_refused() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        check([Operation(1, "x", "write", [1], invoked=0, returned=1)])
