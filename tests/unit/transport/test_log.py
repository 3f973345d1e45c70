"""One line per record, the same fields in the same places, and the trace it belongs to."""

import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spans import traced
from transport import tracing
from transport.log import LineFormatter

LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?P<level>[A-Z]+) (?P<id>\S+) (?P<logger>\S+) "
    r"(?P<message>.*?)(?: trace_id=(?P<trace>[0-9a-f]{32}))?"
)


def written(message: str, *values: object, error: BaseException | None = None) -> list[str]:
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("room.module", logging.WARNING, __file__, 1, message, values, info)
    return LineFormatter("worker-0").format(record).split("\n")


def fields(line: str) -> dict[str, str | None]:
    match = LINE.fullmatch(line)
    assert match is not None, line
    return match.groupdict()


def test_a_line_has_time_level_process_logger_and_message() -> None:
    (line,) = written("placed pipeline=%s", "g/p")
    assert {**fields(line), "time": None} == {
        "time": None,
        "level": "WARNING",
        "id": "worker-0",
        "logger": "room.module",
        "message": "placed pipeline=g/p",
        "trace": None,
    }


def test_what_is_said_within_a_trace_names_it() -> None:
    with traced(), tracing.span("it"):
        (line,) = written("placed")
        assert fields(line)["trace"] == tracing.trace_id() != ""
        assert fields(line)["message"] == "placed"
    assert fields(written("placed")[0])["trace"] is None


@given(st.text())
def test_no_foreign_text_makes_a_second_line(text: str) -> None:
    (line,) = written("refused: %s", text)
    assert len(line.splitlines()) == 1
    assert fields(line)["level"] == "WARNING"


def test_a_traceback_follows_its_line() -> None:
    try:
        raise RuntimeError("a defect")
    except RuntimeError as error:
        first, *rest = written("failed", error=error)
    assert fields(first)["message"] == "failed"
    assert rest[0].startswith("Traceback") and rest[-1] == "RuntimeError: a defect"


def test_a_process_that_configured_logging_itself_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from transport.log import to_stderr

    root, own = logging.getLogger(), logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(root, "handlers", [own])
    level = root.level
    to_stderr("c0")
    assert root.handlers == [own] and root.level == level
