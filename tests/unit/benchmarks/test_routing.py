"""The load of the routing benchmark, and its verdicts."""

import json

import pytest

from benchmarks import WrongUsage
from benchmarks.routing import run
from benchmarks.routing.load import CHUNK, LIMIT, chunk, verdict


@pytest.mark.parametrize("percent", [0, 30, 100])
def test_as_many_events_pass_as_was_asked_for(percent: int) -> None:
    load = chunk("in", percent)
    events = [json.loads(line) for line in load.data.split(b"\r\n")[1::2]]
    assert len(events) == CHUNK
    assert sum(each["fields"]["held_ms"] > LIMIT for each in events) == load.passing == CHUNK * percent // 100


def test_each_event_goes_where_its_number_says() -> None:
    heads = chunk(lambda number: f"in.{number % 2}").data.split(b"\r\n")[:-1:2]
    assert [head.split()[1] for head in heads] == [b"in.0", b"in.1"] * (CHUNK // 2)


def test_a_target_is_met_from_the_side_it_is_on() -> None:
    assert verdict(1.0, 0.8)["met"] and not verdict(0.7, 0.8)["met"]
    assert verdict(1.0, 1.3, at_most=True)["met"] and not verdict(1.4, 1.3, at_most=True)["met"]


def test_a_part_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(WrongUsage, match="'hops' is no part"):
        run(parts="hops")
