"""Heartbeats and registrations that are larger than a message."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_schemas.codec import decode, encode
from proto_schemas.messages.membership import (
    MAX_PARTS,
    Capacity,
    Heartbeat,
    PipelineMetrics,
    Register,
    RunningPipeline,
)
from worker.parts import REGISTER_BYTES, WHOLE_BYTES, fitting, in_messages

names = st.text("abcü", min_size=1, max_size=60)


def copies_of(*texts: str) -> list[RunningPipeline]:
    return [
        RunningPipeline(pipeline_id=f"p-{number}", group="g", name=text, epoch=number + 1)
        for number, text in enumerate(texts)
    ]


def heartbeat(copies: list[RunningPipeline], **more: Any) -> Heartbeat:
    return Heartbeat(
        events_processed=7,
        pipelines_running=len(copies),
        incarnation="i1",
        seq=3,
        load=0.5,
        draining=True,
        pipelines=copies,
        pipeline_metrics=[PipelineMetrics(pipeline_name=c.name, events_in=1, events_out=2) for c in copies],
        **more,
    )


@given(st.lists(names, min_size=1, max_size=40), st.integers(700, 4_000), st.booleans())
def test_parts_fit_and_hold_every_copy_once_in_order_with_what_belongs_to_it(
    texts: list[str], limit: int, windows: bool
) -> None:
    copies = copies_of(*texts)
    told = heartbeat(copies, loss_windows=list(range(len(copies))) if windows else None)
    messages = in_messages(told, limit)
    assert all(len(message) <= limit for message in messages)
    read = [decode(message, Heartbeat) for message in messages]
    assert {
        (each.seq, each.incarnation, each.pipelines_running, each.load, each.draining) for each in read
    } == {(3, "i1", len(copies), 0.5, True)}, "each says all that is no list"
    if len(read) == 1:
        assert read == [told]
        return
    parts = [each.part for each in read if each.part is not None]
    assert [(part.number, part.of) for part in parts] == [(n, len(read)) for n in range(len(read))]
    assert list(itertools.chain.from_iterable(part.pipelines for part in parts)) == copies
    assert all(each.pipelines is None and each.loss_windows is None for each in read), "no list is half"
    for each, part in zip(read, parts, strict=True):
        assert [one.pipeline_name for one in each.pipeline_metrics or ()] == [c.name for c in part.pipelines]
        own = [copy.epoch - 1 for copy in part.pipelines]
        assert part.loss_windows == (own if windows else None)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_what_fits_goes_out_as_it_always_did(count: int) -> None:
    told = heartbeat(copies_of(*("p" * 20 for _ in range(count))))
    assert in_messages(told) == [encode(told)]


def test_where_parts_are_too_few_it_says_that_it_is_alive_and_nothing_about_copies() -> None:
    for told in (
        heartbeat(copies_of(*("x" * 200 for _ in range(5 * MAX_PARTS)))),
        heartbeat(copies_of("x" * 2_000, "y")),
    ):
        (message,) = in_messages(told, 900)
        read = decode(message, Heartbeat)
        assert (read.pipelines, read.part, read.pipelines_running) == (None, None, told.pipelines_running)


def test_twenty_thousand_copies_fit_and_leave_room() -> None:
    messages = in_messages(heartbeat(copies_of(*(f"pipeline-{n:040}" for n in range(20_000)))))
    assert 1 < len(messages) <= MAX_PARTS / 2 and max(map(len, messages)) < WHOLE_BYTES / 2


def test_a_registration_that_is_too_large_keeps_the_newest_epochs() -> None:
    request = Register(
        worker_id="w",
        address="x",
        api_key="k",
        capacity=Capacity(cpu_cores=1, pipelines_running=1, max_pipelines=1),
        pipelines=copies_of(*("p" * 30 for _ in range(10_000))),
    )
    smaller = fitting(request)
    assert smaller.pipelines is not None and 1_000 < len(smaller.pipelines) < 10_000
    assert len(encode(smaller)) <= REGISTER_BYTES
    assert min(copy.epoch for copy in smaller.pipelines) == 10_001 - len(smaller.pipelines)
    assert fitting(smaller) is smaller
    assert fitting(request, limit=10).pipelines == [], "the rest is not for us to shorten"
