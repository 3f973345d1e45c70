r"""YAML, written of what JSON can say, so that every reader takes it for the same data.

Readers differ: for YAML 1.1 `no` is false, `1:30` is 90 and `1e3` a text, for YAML 1.2 each is something
else. So a text stands without quotes only where it is made of words that no version knows for anything but
text; lines of text that print are a literal block; all other texts are in double quotes, whose escapes are
the same in both versions. A number with an exponent has a point and a sign. A key that is too long for a
line of its own, 1024 characters in both versions, is written with a question mark.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_WORDS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]*[A-Za-z0-9_./])*")
_TAKEN: Final = frozenset(
    ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nil", "none", "inf", "nan"]
)
_LITERAL: Final = re.compile(r"[!-~\xa1-\ud7ff][ -~\xa1-\ud7ff]*(\n[ -~\xa1-\ud7ff]*)*\n?")
"""Begins with what is no space, for the indent is read from the first line."""
_BREAKS: Final = re.compile("[\u2028\u2029]")
_ESCAPED: Final = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_LONGEST_KEY: Final = 1000
_STEP: Final = "  "


def to_yaml(value: Any) -> str:
    """One document, without a marker before or after it, in block style.

    Args:
        value: None, a bool, a number, a text, or lists and dicts (with keys that are texts) of such.
    """
    if isinstance(value, str):
        return _quoted(value) + "\n"
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    """The first line may be put behind a dash or a key; the others are to be indented below it."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _pair(_scalar(key), item)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _below("- ", item)
    elif isinstance(value, str) and _is_literal(value):
        yield "|" if value.endswith("\n") else "|-"
        yield from value.removesuffix("\n").split("\n")
    else:
        yield _scalar(value)


def _pair(key: str, item: Any) -> Iterator[str]:
    if len(key) > _LONGEST_KEY:
        yield f"? {key}"
        yield from _below(": ", item)
    elif isinstance(item, dict | list) and item:
        yield f"{key}:"
        yield from (_STEP + line if line else "" for line in _lines(item))
    else:
        yield from _below(f"{key}: ", item)


def _below(head: str, item: Any) -> Iterator[str]:
    lines = _lines(item)
    yield head + next(lines)
    yield from (_STEP + line if line else "" for line in lines)


def _is_literal(text: str) -> bool:
    if "\n" not in text.rstrip("\n") or text.endswith("\n\n"):
        return False
    return _LITERAL.fullmatch(text) is not None and not _BREAKS.search(text)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _WORDS.fullmatch(value) and value.lower() not in _TAKEN and len(value) <= _LONGEST_KEY
        return value if plain else _quoted(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}" if e else mantissa
    return json.dumps(value)  # null, true, false, whole numbers, [] and {}


def _quoted(text: str) -> str:
    return _ESCAPED.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
