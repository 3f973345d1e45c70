"""The command line: `python -m benchmarks NAME [-o json] [key=value ...]`."""

from typing import Any

import pytest

from benchmarks import WrongUsage, raft
from benchmarks.__main__ import main
from benchmarks.raft import compaction


@pytest.mark.parametrize(
    ("parameter", "said"),
    [("parts=commits", "no part 'commits': use some of commit,"), ("size=7", "'size=7' is not a parameter")],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(
    parameter: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["raft", "-o", "json", parameter])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_list_of_no_numbers_is_refused_before_anything_starts() -> None:
    with pytest.raises(WrongUsage, match="no numbers"):
        raft.run(parts="commit", clients="one,two")


def test_a_part_that_fails_misses_its_target_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = iter([{"met": True}])

    def measure(**_: Any) -> dict[str, Any]:
        return next(calls)

    monkeypatch.setattr(compaction, "measure", measure)
    assert main(["raft", "parts=compaction"]) == 0
    assert main(["raft", "parts=compaction"]) == 1
    assert "StopIteration" in capsys.readouterr().err
