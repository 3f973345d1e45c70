"""`varpulis fmt`: one way to write a program, which never makes another program of it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vpl.test_guide import examples
from vpl import VplError, style
from vpl.parser import parse
from vpl.style import styled

PROGRAMS = [example.source for example in examples() if "errors" not in example.claims]
PROGRAMS += [
    path.read_text(encoding="utf-8").partition("---\n")[0]
    for path in sorted(Path(__file__).with_name("cases").glob("*.vpl.txt"))
]
PROGRAMS = [source for source in PROGRAMS if source.strip() and not parse(source).diagnostics]


@pytest.mark.parametrize(
    ("written", "styled_as"),
    [
        ("stream  A=Door . where( x>1and(y) )", "stream A = Door.where(x > 1 and (y))\n"),
        ("const A=- 30s", "const A = -30s\n"),
        ("const A=1 - -2**+3", "const A = 1 - -2 ** +3\n"),
        ("let A=[ 1,2 ,{a:1} ]", "let A = [1, 2, {a: 1}]\n"),
        ("let A = b[ 1 : 2 ]", "let A = b[1:2]\n"),
        ("event D:\n  a :{str:[ int ] ?} ?", "event D:\n    a: {str: [int]?}?\n"),
        ("stream A=D as x->E where a==x.a as y.within(2m)", None),
        ("# a\n\n\n\nconst A=1 # b\n\n", "# a\n\nconst A = 1  # b\n"),
        (
            "stream A = D\n  # why\n .emit(a:1,\n b:[\n2\n]\n)\n# next\nstream B=D",
            "stream A = D\n    # why\n    .emit(a: 1,\n        b: [\n            2\n        ]\n    )\n"
            "# next\nstream B = D\n",
        ),
        ("stream A = D.where(not(a)).emit(where:where, f:in_(1))", None),
        ("\r\nconst A = 'x # y'\r\n", "const A = 'x # y'\n"),
        ("/* a\n   b */\nconst A = 1", "/* a\n   b */\nconst A = 1\n"),
    ],
)
def test_spaces_and_indents_are_the_usual_ones(written: str, styled_as: str | None) -> None:
    if styled_as is None:
        assert styled(written).count("\n") == 1
    else:
        assert styled(written) == styled_as


def test_a_long_line_of_a_stream_is_broken_before_each_operation() -> None:
    source = f"stream A = Door.where({' and '.join(['open'] * 8)}).where(open).emit(badge: badge, site: site)"
    lines = styled(source).splitlines()
    assert [line.split("(")[0] for line in lines] == [
        "stream A = Door",
        "    .where",
        "    .where",
        "    .emit",
    ]
    assert max(map(len, lines)) <= style.WIDTH


@pytest.mark.parametrize("source", PROGRAMS)
def test_a_program_stays_the_same_program_and_styling_it_again_changes_nothing(source: str) -> None:
    made = styled(source)
    assert parse(made).statements == parse(source).statements
    assert styled(made) == made


@given(st.data())
def test_how_a_program_was_spaced_does_not_show(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(PROGRAMS))
    blanks = st.sampled_from([" ", "  ", "\t", " \t "])

    def spaced(match: re.Match[str]) -> str:
        return data.draw(blanks) if match[0] == " " else match[0]

    made = re.sub(r"\"[^\"\n]*\"|'[^'\n]*'|[#/][^\n]*| ", spaced, source)
    assert styled(made) == styled(source)


def test_a_broken_program_is_refused_with_its_mistakes() -> None:
    with pytest.raises(VplError, match="expected an expression"):
        styled("stream A = Door.emit(x: 1 +")
    with pytest.raises(VplError, match="never closed"):
        styled("const A = 'x")
