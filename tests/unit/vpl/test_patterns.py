"""The regular expressions of `regex_match`: same answers as `re`, without its worst case."""

import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vpl.patterns import MAX_PATTERN, MAX_SUBJECT, Pattern, PatternError, compile_pattern, matches


@settings(max_examples=600)
@given(st.text("ab(|)*+?.^$[]{1,2}\\dw-", max_size=12), st.lists(st.text("ab1-(", max_size=6), max_size=5))
def test_it_answers_as_re_does(pattern: str, texts: list[str]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = re.compile(pattern)
        compile_pattern(pattern)
    except (re.error, PatternError):
        assume(False)
    for text in texts:
        assert matches(text, pattern) == bool(reference.search(text))


@pytest.mark.parametrize(
    "pattern", ["(a|a)*b", "(a*)*b", "(a+)+$b", "a*a*a*a*a*b", "(a?){30}a{30}b", "(.*)*x"]
)
def test_patterns_that_backtracking_engines_hang_on_are_answered(pattern: str) -> None:
    assert matches("a" * MAX_SUBJECT, pattern) is False


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?P<n>a)", "\\1", "\\b", "(a", "a)", "[a", "a**", "*a", "a{9,2}", "a{1000}",
                "((a{50}){50}){50}",
                "[b-a]", "a\\", "(" * 20 + "a" + ")" * 20, "a" * (MAX_PATTERN + 1)],
)  # fmt: skip
def test_what_it_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_a_longer_subject_is_a_mismatch() -> None:
    with pytest.raises(ValueError, match="at most"):
        matches("a" * (MAX_SUBJECT + 1), "a")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("(?i)HELLO", "say hello", True),
        ("^a.b$", "a\nb", False),
        ("(?s)^a.b$", "a\nb", True),
        ("(?is)A.B", "a\nb", True),
         ("^[\\w.]+@[\\w.]+\\.[a-z]{2,}$", "a.b@c.de", True),
     ("é+$", "caféé", True),
     ("^$", "", True), ("^$", "a", False), ("[^a-c]", "abc", False), ("a{2,}", "aab", True),
     ("x{,3}", "x{,3}", True)],
)  # fmt: skip
def test_examples(pattern: str, text: str, found: bool) -> None:
    assert matches(text, pattern) is found


def test_the_cache_of_steps_is_bounded() -> None:
    pattern = Pattern([("char", str.isalpha), ("match",)])
    for code in range(20_000):
        pattern.search(chr(0x4E00 + code % 20_000) * 2)
        pattern.search("1" + chr(code + 1))
    assert len(pattern._steps) <= 4096
