"""What we write as YAML is read as what it was."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.yaml import to_yaml

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

# fmt: off
NASTY = st.sampled_from([
    '', 'no', 'Yes', 'ON', '~', 'null', '1:30', '1e3', '0o14', '0x1f', '1_000', '.5', '.inf',
    '2026-11-27', '=', '<<', '- a', 'a: b', 'a #b', '#a', "'", '"', '%a', '@a', '`a`', '!a',
    '&a', '*a', '?', '? a', ': a', '---', '...', '[', '{', ']', ',', '>', 'a ', '  a', 'a\n',
    '\na', 'a\n\n', 'a\n b\n\n c', '\tx', 'a\tb\nc', '\x85', '\u2028a\nb', '\ufeff', '\x7f',
    'a\r\nb',
])
# fmt: on
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | NASTY
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
RESOLVED_BY_1_2 = re.compile(
    r"null|Null|NULL|~|true|True|TRUE|false|False|FALSE|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan|\.NaN|\.NAN|"
)
"""YAML 1.2.2, 10.3.2, the core schema: what stands without quotes and is no text."""


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type throughout: 1, 1.0 and True are three things."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(DOCUMENTS)
@example({"source": "stream A = B\n  .where(x > 1)\n\n    .emit()\n", "more": [["a\nb"], {"c": "d\ne"}]})
@example({"k" * 2000: {"a": [1]}, "q" * 2000: "a\nb"})
@example([[[]], [{}], {"a": {}}, [{"b": [{"c": 1e20, "d": 1e-7, "e": -0.0}]}]])
def test_yaml_1_1_reads_what_was_written(document: Any) -> None:
    assert same(yaml.safe_load(to_yaml(document)), document)


@given(TEXT)
def test_no_text_without_quotes_is_anything_else_by_yaml_1_2(text: str) -> None:
    shown = to_yaml([text]).removeprefix("- ").removesuffix("\n")
    quoted = shown.startswith(('"', "|"))
    assert quoted or (shown == text and not RESOLVED_BY_1_2.fullmatch(shown))


@pytest.mark.parametrize(
    "word", ["no", "Y", "off", "TRUE", "Null", "12", "1e3", "0o7", "a: b", "a #b", "", "-"]
)
def test_what_some_reader_takes_for_something_else_is_quoted(word: str) -> None:
    assert to_yaml({"a": word}) == f'a: "{word}"\n'


def test_words_need_no_quotes_and_programs_stay_readable() -> None:
    document = {
        "status": "running on worker-1",
        "source": "stream A = B\n    .emit()\n",
        "left": [],
        "loads": [1, 2.5],
    }
    assert to_yaml(document) == (
        "status: running on worker-1\nsource: |\n  stream A = B\n      .emit()\n"
        "left: []\nloads:\n  - 1\n  - 2.5\n"
    )


@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
def test_a_line_of_dashes_parts_two_documents(documents: list[Any]) -> None:
    stream = "---\n".join(to_yaml(each) for each in documents)
    assert same(list(yaml.safe_load_all(stream)), documents)
