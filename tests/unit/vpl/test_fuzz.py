"""Foreign text: whatever it is, it gives a program or diagnostics, in bounded time, and no other error."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vpl.test_cases import CASES
from vpl import VplError, check_source, compile_source
from vpl.layout import MAX_SOURCE_BYTES

PROGRAMS = [case.source for case in CASES]
PIECES = ["stream", " S ", "=", "E", ".where(", ".emit(", ")", "(", "x", "1", "5m", "and", "not", "if", "'",
          '"', "/*", "*/", "#", "\n", ",", ":", "->", "{", "}", "[", "]", "@2026-01-01", "??", "?.", "**",
          "\\", "é", "\0",
          "event T:\n", "=>", "fn f(x): ", "return ", "merge(A, B)", "join(", ".on(", "timer(", "sliding:",
          "session: 5s", ".watermark(out_of_order: 5s)", ".window(5s)", ".distinct(",
          ".aggregate(n: count())"]  # fmt: skip


def survives(source: str) -> None:
    diagnostics = check_source(source)
    lines = source.split("\n")
    for diagnostic in diagnostics:
        assert 1 <= diagnostic.line <= len(lines)
        assert 1 <= diagnostic.column <= len(lines[diagnostic.line - 1]) + 1
        assert diagnostic.message
    try:
        compile_source(source).start().process("E", {"x": 1}, 0)
    except VplError as error:
        assert error.diagnostics == tuple(diagnostics)


@settings(max_examples=200)
@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_gives_a_program_or_diagnostics(source: str) -> None:
    survives(source)


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_program_gives_a_program_or_diagnostics(seed: int) -> None:
    chance = random.Random(seed)
    source = chance.choice(PROGRAMS)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(source))
        cut = chance.choice([0, 1, 5, 40])
        source = source[:at] + chance.choice(["", *PIECES, chance.choice(PROGRAMS)[:50]]) + source[at + cut :]
    survives(source)


HUGE = {
    "chain of sums": "stream S = E.emit(x: " + "1 + " * 50_000 + "1)",
    "chain of ors": "stream S = E.where(" + "x == 1 or " * 15_000 + "x == 2)",
    "negations": "stream S = E.where(" + "not " * 50_000 + "x)",
    "brackets": "stream S = E.where(" + "(" * 200_000,
    "closing brackets": "stream S = E.where(" + ")" * 200_000,
    "open comment": "/*" * 100_000,
    "open texts": '"\n' * 100_000,
    "conditions": "stream S = E.emit(x: " + "if x then 1 else " * 10_000 + "1)",
    "powers": "stream S = E.emit(x: " + "2 ** " * 40_000 + "2)",
    "too many streams": "stream S = E\n" * 15_000,
    "too many on one line": "".join(f"stream S{i} = E " for i in range(600)),
    "many constants": "".join(f"const C{i} = {i}\n" for i in range(5_000)) + "stream S = E",
    "members": "stream S = E.emit(x: a" + ".b" * 100_000 + ")",
    "a long name": "stream " + "S" * 200_000 + " = E",
    "too large": "#" * (MAX_SOURCE_BYTES + 1),
    "wide list": "stream S = E.emit(x: [" + "1," * 100_000 + "1])",
    "the widest list": "stream S = E.emit(x: [" + "1," * 9_900 + "1])",
    "functions that double": "fn f0(x): x\n"
    + "".join(f"fn f{i}(x): f{i - 1}(x) + f{i - 1}(x)\n" for i in range(1, 200))
    + "stream S = E.emit(x: f199(1))",
    "functions in a row": "fn f0(x): x\n"
    + "".join(f"fn f{i}(x): f{i - 1}(x)\n" for i in range(1, 1_500))
    + "stream S = E.emit(x: f1499(1))",
    "a wide merge": "stream S = merge(" + ", ".join(f"T{i}" for i in range(5_000)) + ")",
    "a function that never ends": "fn f(" + "x, " * 6_000 + "): (" * 20,
    "unknown names": "stream A = E.emit(" + "".join(f"field{i}: 1," for i in range(2_000)) + "z: 1)\n"
    "stream B = A.emit(" + "".join(f"f{i}: feld{i}," for i in range(2_000)) + "z: 1)",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_large_source_is_answered_within_the_limits(name: str) -> None:
    try:
        compile_source(HUGE[name])
    except VplError as error:
        assert str(error)


def test_a_source_that_is_not_unicode_is_refused() -> None:
    [diagnostic] = check_source(f"stream S = E.emit(x: '{chr(0xD800)}')")
    assert "surrogate" in diagnostic.message


def test_five_hundred_streams_are_taken_and_one_more_is_not() -> None:
    streams = "".join(f"stream S{i} = Event.where(x > {i})\n" for i in range(1, 501))
    assert check_source(streams) == []
    [diagnostic] = check_source(streams + "stream S501 = S500")
    assert (diagnostic.line, diagnostic.message) == (501, "more than 500 streams in one program")


def test_the_deepest_chain_runs_and_a_deeper_one_is_refused() -> None:
    def chain(length: int) -> str:
        first = "stream S0 = E.window(1).aggregate(x: last(x))\n"
        return first + "".join(
            f"stream S{i} = S{i - 1}.window(1).aggregate(x: last(x)).emit()\n" for i in range(1, length)
        )

    engine = compile_source(chain(125)).start()
    engine.process("E", {"x": 1}, 0)
    assert len(engine.take()) == 124
    [diagnostic] = check_source(chain(140))
    assert (diagnostic.line, diagnostic.message) == (
        126,
        "streams and windows feed each other more than 250 deep",
    )
