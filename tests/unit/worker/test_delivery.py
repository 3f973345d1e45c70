"""Marks as they are written and read, and which programs can be promised what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.delivery import unfit
from worker.delivery.marks import Closing, Done, Mark, Unreadable, decode, encode

COUNTS = st.integers(0, 2**63 - 1)
MARKS = st.builds(
    Mark,
    copy=st.text(),
    epoch=COUNTS,
    number=COUNTS,
    done=st.builds(Done, COUNTS, COUNTS, COUNTS),
    closings=st.lists(st.builds(Closing, COUNTS, COUNTS, COUNTS)),
)


@given(MARKS)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert decode(encode(mark)) == mark


@given(st.binary() | st.sampled_from([b"{}", b"null", b'{"copy":1}', b'{"copy":"a","epoch":"1"}']))
def test_what_is_no_mark_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data)


@pytest.mark.parametrize(
    ("delivery", "sources", "sinks", "fault"),
    [
        ("at_most_once", ["B"], ["B"], ""),
        ("at_least_once", [], ["B"], ""),
        ("exactly_once", [], [], ""),
        ("at_least_once", ["B"], [], ".from(B)"),
        ("exactly_once", ["B"], [], ".from(B)"),
        ("exactly_once", [], ["B"], ".to(B)"),
        ("twice", [], [], "not known"),
    ],
)
def test_what_cannot_be_promised_is_told(
    delivery: str, sources: list[str], sinks: list[str], fault: str
) -> None:
    said = unfit(delivery, sources, sinks)
    assert (fault in said) if fault else not said
