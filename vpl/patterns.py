"""Regular expressions in bounded time.

Python's `re` backtracks: a pattern like `(a|a)*b` takes time exponential in the text, and patterns or texts
come from outside here. So `regex_match` has a small engine of its own: the pattern becomes a Thompson
program (Pike's instruction set, relative jumps), run on all its threads at once, with the steps cached as a
lazy automaton. Time is at most O(instructions x text) whatever they are, both bounded below; usually one
dictionary look-up a character.

Taken: literals, `.`, classes, `\\d \\w \\s` and their opposites, groups, `|`, `* + ? {m,n}` (also lazy: it
makes no difference to a yes or no), `^ $`, and flags `(?is)` in front. Not taken, each refused by name:
look-around, references, `\\b`.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

MAX_PATTERN = 256
MAX_SUBJECT = 4096
MAX_INSTRUCTIONS = 256
MAX_GROUPS_DEEP = 16
_MAX_STEPS_CACHED = 4096

Test = Callable[[str], bool]
# ("char", test) | ("split", offset, offset) | ("jump", offset) | ("start",) | ("end",) | ("match",)
Instruction = tuple[Any, ...]

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_CLASSES: Final[dict[str, Test]] = {
    "d": lambda c: c.isdecimal(),
    "D": lambda c: not c.isdecimal(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}


class PatternError(ValueError):
    """The pattern is not one this engine takes; the text says why."""


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> "Pattern":
    """The matcher for `pattern`; raises `PatternError`."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a pattern of more than {MAX_PATTERN} characters")
    return Pattern([*_Reader(pattern).read(), ("match",)])


def matches(text: Any, pattern: Any) -> bool:
    """Whether `pattern` is found anywhere in `text` (anchor it with `^` and `$`)."""
    if text.__class__ is not str or pattern.__class__ is not str:
        raise TypeError("regex_match() takes two texts")
    if len(text) > MAX_SUBJECT:
        raise ValueError(f"regex_match() takes at most {MAX_SUBJECT} characters")
    return compile_pattern(pattern).search(text)


class Pattern:
    """A compiled pattern. A state of the automaton is the set of instructions its threads wait at."""

    def __init__(self, program: list[Instruction]) -> None:
        self._program = program
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._restart = self._closure({0})
        self._first = self._closure({0}, at_start=True)

    def search(self, text: str) -> bool:
        state, match = self._first, len(self._program) - 1
        steps = self._steps
        for character in text:
            if match in state:
                return True
            following = steps.get((state, character))
            state = self._step(state, character) if following is None else following
        return match in state or match in self._closure(state, at_end=True, at_start=not text)

    def _step(self, state: frozenset[int], character: str) -> frozenset[int]:
        program = self._program
        moved = {i + 1 for i in state if program[i][0] == "char" and program[i][1](character)}
        following = self._closure(moved) | self._restart
        if len(self._steps) >= _MAX_STEPS_CACHED:
            self._steps.clear()
        self._steps[state, character] = following
        return following

    def _closure(
        self, threads: set[int] | frozenset[int], *, at_start: bool = False, at_end: bool = False
    ) -> frozenset[int]:
        seen: set[int] = set()
        waiting = list(threads)
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            kind, *offsets = self._program[place]
            if kind in ("split", "jump"):
                waiting += [place + offset for offset in offsets]
            elif (kind == "start" and at_start) or (kind == "end" and at_end):
                waiting.append(place + 1)
        return frozenset(seen)


class _Reader:
    """Recursive descent from a pattern to instructions."""

    def __init__(self, pattern: str) -> None:
        flags = re.match(r"\(\?([is]+)\)", pattern)
        self._ignore_case = flags is not None and "i" in flags[1]
        self._dot_is_all = flags is not None and "s" in flags[1]
        self._text = pattern[flags.end() :] if flags is not None else pattern
        self._at = 0
        self._depth = 0

    def read(self) -> list[Instruction]:
        program = self._alternatives()
        if self._at < len(self._text):
            raise PatternError("a `)` without its `(`")
        return program

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("the pattern ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _alternatives(self) -> list[Instruction]:
        left = self._sequence()
        while self._peek() == "|":
            self._take()
            right = self._sequence()
            left = _fits([("split", 1, len(left) + 2), *left, ("jump", len(right) + 1), *right])
        return left

    def _sequence(self) -> list[Instruction]:
        program: list[Instruction] = []
        while self._peek() not in ("", "|", ")"):
            program = _fits(program + self._repeated(self._atom()))
        return program

    def _repeated(self, body: list[Instruction]) -> list[Instruction]:
        sign = self._peek()
        if sign not in ("*", "+", "?", "{") or (sign == "{" and not self._is_count()):
            return body
        self._take()
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._count()
        if self._peek() == "?":
            self._take()
        if self._peek() in ("*", "+", "?"):
            raise PatternError("two repetitions in a row")
        if len(body) * max(low, high or 0) > MAX_INSTRUCTIONS:
            raise PatternError("the pattern repeats too much")
        program = body * low
        if high is None:
            return _fits([*program, ("split", 1, len(body) + 2), *body, ("jump", -len(body) - 1)])
        return _fits(program + [("split", 1, len(body) + 1), *body] * (high - low))

    def _is_count(self) -> bool:
        inside = self._text[self._at + 1 :].partition("}")
        numbers = inside[0].split(",")
        return bool(inside[1]) and len(numbers) <= 2 and numbers[0].isdecimal() and len(inside[0]) <= 9

    def _count(self) -> tuple[int, int | None]:
        inside, _, _ = self._text[self._at :].partition("}")
        self._at += len(inside) + 1
        low, comma, high = inside.partition(",")
        if not comma:
            return int(low), int(low)
        if high and not high.isdecimal():
            raise PatternError(f"`{{{inside}}}` is not a repetition")
        if high and int(high) < int(low):
            raise PatternError(f"`{{{inside}}}` repeats at most fewer times than at least")
        return int(low), int(high) if high else None

    def _atom(self) -> list[Instruction]:
        match character := self._take():
            case "(":
                return self._group()
            case "[":
                return [("char", self._set())]
            case ".":
                return [("char", lambda c: True)] if self._dot_is_all else [("char", lambda c: c != "\n")]
            case "^":
                return [("start",)]
            case "$":
                return [("end",)]
            case "\\":
                return [("char", self._escape())]
            case "*" | "+" | "?":
                raise PatternError(f"nothing to repeat before `{character}`")
        return [("char", self._literal(character))]

    def _group(self) -> list[Instruction]:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise PatternError("look-around, names and flags inside are not taken; use (...) or (?:...)")
        self._depth += 1
        if self._depth > MAX_GROUPS_DEEP:
            raise PatternError(f"groups are nested more than {MAX_GROUPS_DEEP} deep")
        program = self._alternatives()
        self._depth -= 1
        if self._peek() != ")":
            raise PatternError("a `(` is never closed")
        self._take()
        return program

    def _escape(self) -> Test:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        return self._literal(self._escaped(character))

    @staticmethod
    def _escaped(character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character.isalnum():
            raise PatternError(f"`\\{character}` is not taken")
        return character

    def _literal(self, character: str) -> Test:
        return self._range(character, character)

    def _range(self, low: str, high: str) -> Test:
        if low > high:
            raise PatternError(f"`{low}-{high}` is not a range")
        if self._ignore_case:
            return lambda c: any(low <= form <= high for form in (c, c.lower(), c.upper()))
        return lambda c: low <= c <= high

    def _set(self) -> Test:
        negated = self._peek() == "^"
        if negated:
            self._take()
        tests: list[Test] = []
        while (character := self._take()) != "]" or not tests:
            if character == "\\" and self._peek() in _CLASSES:
                tests.append(_CLASSES[self._take()])
                continue
            low = self._escaped(self._take()) if character == "\\" else character
            high = low
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                high = self._take()
                high = self._escaped(self._take()) if high == "\\" else high
            tests.append(self._range(low, high))
        return lambda c: any(test(c) for test in tests) is not negated


def _fits(program: list[Instruction]) -> list[Instruction]:
    if len(program) > MAX_INSTRUCTIONS:
        raise PatternError("the pattern is too large")
    return program
