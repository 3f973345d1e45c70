"""Spans and the header that carries them; nothing where tracing is off, and nothing from garbage."""

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spans import trace_of, traced
from transport import tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{SPAN}-01"


def test_a_span_belongs_to_the_one_that_a_header_names_and_its_own_header_names_it() -> None:
    with traced() as spans:
        with tracing.span("outer", "server", tracing.parent_of(HEADER), worker="w"):
            assert tracing.trace_id() == TRACE
            carried = tracing.headers()[tracing.HEADER]
        (outer,) = spans.all
        assert outer.parent is not None and f"{outer.parent.span_id:016x}" == SPAN
        assert outer.context is not None and carried == f"00-{TRACE}-{outer.context.span_id:016x}-01"
        assert outer.attributes == {"worker": "w"}
    assert tracing.trace_id() == ""


async def test_a_span_reaches_through_awaits_and_tasks_and_not_to_its_neighbours() -> None:
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        with tracing.within(name):
            await asyncio.sleep(0)

    with traced() as spans:
        with tracing.span("request"):
            await asyncio.gather(work("a"), asyncio.create_task(work("b")))
        await work("alone")
        assert sorted(span.name for span in spans.all) == ["a", "b", "request"]
        assert len({trace_of(span) for span in spans.all}) == 1


def test_what_fails_is_told_by_its_kind_and_never_by_its_text() -> None:
    with traced() as spans:
        with pytest.raises(ValueError), tracing.span("it"):
            raise ValueError("the password is hunter2")
        (span,) = spans.all
    assert span.attributes == {"error.type": "ValueError"} and not span.events
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        HEADER.upper(),
        HEADER + "-more",
        HEADER.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
        " " + HEADER,
        HEADER.replace("1", "١"),
        "00-" * 100_000,
    ],
    ids=lambda header: repr(header[:12]),
)
def test_a_header_that_is_none_is_ignored_and_counted(header: str) -> None:
    with traced():
        before = tracing.ignored()
        assert tracing.parent_of(header) is None
        assert tracing.ignored() == before + 1


@given(st.text(max_size=80))
def test_no_text_breaks_it(header: str) -> None:
    with traced() as spans:
        with tracing.span("it", parent=tracing.parent_of(header)):
            pass
        assert len(spans.all) == 1


def test_a_header_of_a_later_version_may_say_more() -> None:
    with traced(), tracing.span("it", parent=tracing.parent_of(f"cc-{TRACE}-{SPAN}-01-what-comes")):
        assert tracing.trace_id() == TRACE


def test_without_a_tracer_nothing_is_done() -> None:
    assert not tracing.enabled()
    assert tracing.span("it") is tracing.within("it") is tracing.NOTHING
    before = tracing.ignored()
    assert tracing.parent_of("garbage") is None and tracing.parent_of(HEADER) is None
    assert tracing.ignored() == before
    assert (tracing.headers(), tracing.trace_id(), tracing.current()) == ({}, "", None)


def run(code: str, **environment: str) -> str:
    """What a Python process prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_a_process_that_is_not_asked_to_trace_does_not_even_load_the_library() -> None:
    code = """import sys
import coordinator.app, worker.app
from transport import tracing
end = tracing.configure("varpulis-test", "t")
with tracing.span("it"): end()
print(tracing.enabled(), any(name.startswith("opentelemetry") for name in sys.modules))"""
    assert run(code) == "False False\n"


def test_a_process_without_the_library_says_what_to_install_and_works() -> None:
    code = """import logging, sys
sys.modules["opentelemetry"] = None
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from transport import tracing
tracing.configure("varpulis-test", "t")()
with tracing.span("it"): print(tracing.enabled())"""
    said = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").splitlines()
    assert said[0].endswith("pip install 'varpulis-cluster[otel]'")
    assert said[1] == "False"
