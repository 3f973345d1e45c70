"""Diagnostics: each at its line and column, with a hint that says what would be right."""

import pytest

from vpl import VplError, check_source, compile_source

# program | line:column | a piece of the message | a piece of the hint
TABLE = [
    ("stream S = E.where(contain(x, 1))", "1:20", "unknown function `contain`", "did you mean `contains`?"),
    ("stream S = E.where(len(x, 1))", "1:20", "`len` takes 1 argument, not 2", ""),
    ("stream S = E.where(substring(x))", "1:20", "`substring` takes 2 to 3 arguments, not 1", ""),
    ("stream S = E.where(sum(x) > 1)", "1:20", "`sum` is an aggregate", ".aggregate"),
    ("stream S = E.window(5).aggregate(n: cont())", "1:37", "function or aggregate `cont`", "`count`"),
    ("stream S = E.window(5).aggregate(n: sum())", "1:37", "`sum` takes one expression", ""),
    ("stream S = E.window(5).aggregate(n: percentile(x, 101))", "1:51", "a number from 0 to 100", ""),
    ("stream S = E.window(5).aggregate(n: site)", "1:37", "one value per event", "`last(site)`"),
    ("stream S = E.window(5).aggregate(n: sum(avg(x)))", "1:41", "`avg` is an aggregate", ""),
    ("stream S = E.window(5).aggregate()", "1:24", "`.aggregate` takes one result or more", "count()"),
    ("stream S = E.window(5).emit(x: 1)", "1:14", "`.window` without `.aggregate`", "right after it"),
    ("stream S = E.window(5)", "1:14", "`.window` without `.aggregate`", ""),
    ("stream S = E.aggregate(n: count())", "1:14", "`.aggregate` without `.window`", ".window(100)"),
    ("stream S = E.partition_by(x).emit()", "1:14", "`.partition_by` without a window", ""),
    ("stream S = E.having(x > 1)", "1:14", "`.having` without `.aggregate`", "`.where`"),
    ("stream S = E.window(0).aggregate(n: count())", "1:21", "a window has 1 to 1,000,000 events", ""),
    ("stream S = E.window(500d).aggregate(n: count())", "1:21", "lasts 1ms to 366d", ""),
    ("stream S = E.to(Bus)", "1:17", "unknown connector `Bus`", "connector Bus ="),
    ("connector Bus = nats()\nstream S = E.to(Buss)", "2:17", "unknown connector `Buss`", "`Bus`"),
    ("connector Bus = nats()\nstream S = E.emit().from(Bus)", "2:21", "`.from` comes first", ""),
    ("connector Bus = nats(url: x)\nstream S = E", "1:22", "`url` is not a constant", "const"),
    ("connector B = nats()\nconnector B = nats()\nstream S = E", "2:11", "`B` is declared twice", "line 1"),
    ("stream S = E\nstream S = F", "2:8", "stream `S` is declared twice", "line 1"),
    ("stream A = B\nstream B = A", "1:8", "in a circle: B -> A -> B", "a name other than"),
    ("stream Door = Door.emit()", "1:8", "in a circle: Door -> Door", ""),
    ("stream A = E.emit(cost: 1)\nstream B = A.where(cots > 1)", "2:20", "unknown name `cots`", "`cost`"),
    ("stream S = E.emit(x: 1, x: 2)", "1:25", "`x` is given twice", ""),
    ("stream S = E.emit(1 + 1)", "1:19", "a field needs a name", "name: expression"),
    ("stream S = E.where(x is strin)", "1:20", "unknown type `strin`", "`str`"),
    ("stream S = E as a.where(a)", "1:25", "`a` is a whole event", "a.field"),
    ("stream S = E as a.select(x: a.y).where(a.y > 1)", "1:40", "unknown name `a`", ""),
    ("stream S = E.whre(x)", "1:14", "unknown operation `.whre`", "`where`"),
    ("stream S = E.where(regex_match(x, '(a'))", "1:35", "a `(` is never closed", ""),
    ("stream S = E.log(level: \"loud\")", "1:18", "unknown log level", "debug, info"),
    ("const A = 1 / 0\nstream S = E", "1:7", "`A` cannot be computed", ""),
    ("const A = B\nstream S = E", "1:11", "unknown name `B`", ""),
    ("const A = 1e308 * 10\nstream S = E", "1:7", "not a finite number", ""),
    ("stream S = A -> B as b .emit()", "1:12", "a sequence without `.within`", ".within(5m)"),
    ("stream S = all A", "1:16", "a sequence without `.within`", ".within(5m)"),
    ("stream S = E.within(5s)", "1:12", "a sequence of one event", ".window"),
    ("stream S = E.not(F where x > 1)", "1:12", "a sequence without `.within`", ""),
    ("stream S = E.process(x)", "1:14", "`.process` is not part of this language", ".select"),
    ("stream S = E.enrich(x)", "1:14", "`.enrich` is not part of this language", ""),
    ("stream S = E.forecast(x: 1)", "1:14", "`.forecast` is not part of this language", "ema"),
    ("stream S = E.trend_aggregate(x: 1)", "1:14", "`.trend_aggregate` is not part", ""),
    ("stream S = E.score(x: 1)", "1:14", "`.score` is not part of this language", ""),
    ("stream S = E.context(x)", "1:14", "`.context` is not part of this language", ""),
    ("import \"x.vpl\"\nstream S = E", "1:1", "`import` is not part of this language", "declarations"),
    ("context hot\nstream S = E", "1:1", "`context` is not part of this language", ""),
    ("pattern P = SEQ(A, B)\nstream S = E", "1:9", "a sequence without `.within`", ""),
    ("stream S = E.pattern(P)", "1:14", "`.pattern` is not part of this language", "pattern P = SEQ"),
    ("", "1:1", "the program has no stream", "stream Name"),
    ("stream S = E.where(x > )", "1:24", "found `)`, expected an expression", ""),
    ("stream S = E.where(x > 3", "1:25", "found the end of the statement", "a `(` is never closed"),
    ("stream S = E.where(x = 3)", "1:22", "found `=`", "equality is written `==`"),
    ("stream S = E.where(x && y)", "1:23", "found `&`", "write `and`"),
    ("stream S = E.where(x => y)", "1:22", "found `=`", "not available"),
    ("stream S = E.where(x.lower() == 1)", "1:27", "found `(`", "called as `f(x)`"),
    ("stream S = E.emit(x: \"abc)", "1:22", "a text is never closed", ""),
    ("/* open\nstream S = E", "1:1", "a comment is never closed", "*/"),
    ("stream S = E.emit", "1:13", "found `.`", "has brackets"),
    ("stream = E", "1:8", "found `=`, expected a name", ""),
    ("strem S = E", "1:1", "found `strem`", ""),
    ("stream S = E.emit(x: \"\\q\")", "1:22", "an escape that is not known", ""),
    ("stream S = E.emit(x: @2026-13-01)", "1:22", "is not a time", "2026-01-02T03:04:05Z"),
    ("stream S = E.emit(x: " + "9" * 301 + ")", "1:22", "more than 300 digits", ""),
    ("stream S = E.where(" + "(" * 25 + "x" + ")" * 25 + ")", "1:43", "nested more than 24 deep", ""),
    ("stream S = E.where(" + "- " * 60 + "x > 1)", "1:", "operators high", ".select"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "place", "message", "hint"), TABLE, ids=[row[0][:60] for row in TABLE])
def test_a_mistake_is_named_at_its_place_with_a_hint(
    source: str, place: str, message: str, hint: str
) -> None:
    found = check_source(source)
    assert any(
        d.severity == "error"
        and f"{d.line}:{d.column}".startswith(place)
        and message in d.message
        and hint in (d.hint or "")
        for d in found
    ), [str(d) for d in found]
    with pytest.raises(VplError):
        compile_source(source)


def test_all_errors_of_a_program_come_at_once_in_source_order() -> None:
    source = """
connector Bus = nats(servers: here)
stream A = E.where(x > )
stream B = E.where(contain(x, 1)).to(Buss)
stream C = E.window(5)
    .emit(y: 1
stream D = E.whre(y)
"""
    found = check_source(source)
    assert [(d.line, d.column) for d in found] == [(2, 22), (3, 24), (4, 20), (4, 38), (6, 15), (7, 14)]


def test_errors_of_streams_in_a_circle_or_declared_twice_are_reported_too() -> None:
    found = check_source("stream A = B.whre(x)\nstream B = A\nstream C = E\nstream C = E.lmit(2)")
    assert [(d.line, d.column) for d in found] == [(1, 8), (1, 14), (4, 8), (4, 14)]


def test_the_error_text_is_the_first_error_and_counts_the_others() -> None:
    with pytest.raises(VplError) as caught:
        compile_source("stream S = E.whre(x).lmit(3)")
    assert str(caught.value) == "1:14: unknown operation `.whre` (did you mean `where`?) (and 1 more)"
    assert len(caught.value.diagnostics) == 2


def test_a_warning_does_not_refuse_the_program() -> None:
    source = 'event Door:\n    held_ms: int\nstream S = Door.where(held_m > 1 and site == "x").emit()'
    [warning] = check_source(source)
    assert (warning.severity, warning.line, warning.column, warning.hint) == (
        "warning",
        3,
        23,
        "did you mean `held_ms`?",
    )
    assert compile_source(source).emits == {"S"}


def test_a_fault_in_one_stream_gives_no_false_errors_in_its_followers() -> None:
    found = check_source("stream A = E.emit(x: nope(1))\nstream B = A.where(x > 1).emit()")
    assert [(d.line, d.column) for d in found] == [(1, 22)]
