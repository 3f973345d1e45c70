"""docs/logs.md says what the logs hold: its examples are lines, and it knows every key that is logged."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster import ROOT
from tests.unit.transport.test_log import LINE

PAGE = (ROOT / "docs" / "logs.md").read_text()
ROOMS = ("coordinator", "worker", "transport", "raft")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def keys_of(module: Path) -> Iterator[str]:
    """The keys of `line(..., key=...)` and of `log.info("... key=%s", ...)`."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Call(func=ast.Name(id="line"), keywords=keywords):
                yield from (keyword.arg for keyword in keywords if keyword.arg)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level),
                args=[ast.Constant(value=str(text)), *_],
            ) if level in LEVELS:
                yield from re.findall(r"\b(\w+)=%", text)


def test_every_key_that_is_logged_is_explained() -> None:
    logged = {key for room in ROOMS for module in (ROOT / room).rglob("*.py") for key in keys_of(module)}
    explained = {
        key
        for row in re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }
    assert len(logged) > 20
    assert logged - explained == set()


def test_the_examples_have_the_form_of_lines() -> None:
    examples = re.findall(r"^    (\d{4}-.*)$", PAGE, re.MULTILINE)
    assert len(examples) == 3
    assert all(LINE.fullmatch(example) for example in examples)
