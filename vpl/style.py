"""One way to write a program: the spaces, indents and blank lines of `varpulis fmt`.

It works on the words and signs of the text, not on the tree, so that comments stay where they are and what
the author broke over lines stays broken, as `gofmt` does. The rules:

- a statement begins in the first column; its further lines are indented by four, what stands within brackets
  by four more than the line that opens them; a comment stands as the line that follows it;
- one blank between words, none inside brackets, around operators one on each side; a sign has none after it;
- two blanks before a comment that ends a line; at most one blank line, none at either end;
- a line of a stream that is longer than `WIDTH` is broken before each `.operation(` and `->` outside
  brackets.

The words and signs themselves are never touched, which `styled` proves on each text that it makes.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from vpl.diagnostics import VplError
from vpl.layout import lay_out
from vpl.parser import parse

WIDTH: Final = 100
_INDENT: Final = "    "
_TOKEN: Final = re.compile(
    r"""(?P<newline>\n)
    |(?P<blank>[^\S\n]+)
    |(?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\n]|'')*'|`[^`\n]+`)
    |(?P<number>@[\w:.+-]+|\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+(?:ms|[smhd])\b|\d+)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>\*\*|<<|>>|->|\?\?|\?\.|[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_BINARY: Final = frozenset(
    [
        "=",
        "==",
        "!=",
        "<=",
        ">=",
        "<",
        ">",
        "|",
        "^",
        "&",
        "<<",
        ">>",
        "+",
        "-",
        "*",
        "/",
        "%",
        "**",
        "->",
        "??",
    ]
)
_OPENS: Final = {"(": ")", "[": "]", "{": "}"}
_LEADS: Final = frozenset(
    ("and", "or", "not", "in", "is", "if", "then", "else", "where", "by", "within", "for", "return")
)
"""Words after which a bracket or a sign begins a new expression, where they are no name."""


class _Piece(NamedTuple):
    """A word, sign or comment; `line`: how many lines end before it, since the piece before."""

    kind: str
    text: str
    lines: int
    at: tuple[int, int]


def styled(source: str) -> str:
    """The same program as `varpulis fmt` writes it; styling it again changes nothing.

    Raises:
        VplError: the text cannot be read as a program.
    """
    layout = lay_out(source)
    read = parse(source)
    errors = [found for found in read.diagnostics if found.severity == "error"]
    if errors:
        raise VplError(errors)
    pieces = list(_pieces(source))
    starts = {(chunk.line, chunk.column) for chunk in layout.chunks}
    made = _Writer(pieces, starts).written()
    if parse(made).statements != read.statements or list(_words(made)) != [p.text for p in pieces]:
        raise AssertionError("the styled program is another one: please report this")
    return made


def _words(source: str) -> Iterator[str]:
    return (piece.text for piece in _pieces(source))


def _pieces(source: str) -> Iterator[_Piece]:
    line, line_start, lines = 1, 0, 0
    for token in _TOKEN.finditer(source):
        kind, text = str(token.lastgroup), token[0]
        if kind == "newline":
            lines += 1
        elif kind != "blank":
            yield _Piece(kind, text.rstrip(), lines, (line, token.start() - line_start + 1))
            lines = 0
        if newlines := text.count("\n"):
            line, line_start = line + newlines, token.start() + text.rfind("\n") + 1


class _Writer:
    def __init__(self, pieces: list[_Piece], starts: set[tuple[int, int]]) -> None:
        self._pieces = pieces
        self._starts = starts
        self._open: list[tuple[str, int]] = []  # each bracket, and how deep the line stands that opened it
        self._lines: list[str] = []

    def written(self) -> str:
        for first, last in self._rows():
            if self._pieces[first].lines > 1 and self._lines:
                self._lines.append("")
            self._row(first, last)
        return "".join(f"{line}\n" for line in self._lines)

    def _rows(self) -> Iterator[tuple[int, int]]:
        """The pieces of each line: the first, and that behind the last."""
        first = 0
        for number in range(1, len(self._pieces) + 1):
            if number == len(self._pieces) or self._pieces[number].lines:
                yield first, number
                first = number

    def _row(self, first: int, last: int) -> None:
        pieces = self._pieces[first:last]
        text, outside, inside = "", [], bool(self._open)
        level = self._level(first)
        indent = _INDENT * level
        stepped = False
        for number, piece in enumerate(pieces, first):
            before = self._pieces[number - 1] if number > first else None
            space = before is not None and self._apart(number, before, piece)
            if before is not None and not self._open and self._breaks(number, piece):
                outside.append(len(text))
                stepped = stepped or piece.text == "->"
                space = space or (before.text != ")" and (stepped or self._is_alias(number - 1)))
            text += (("  " if piece.kind == "comment" else " ") if space else "") + piece.text
            if piece.text in _OPENS and piece.kind == "sign":
                self._open.append((piece.text, level))
            elif piece.kind == "sign" and piece.text in _OPENS.values() and self._open:
                self._open.pop()
        if len(indent) + len(text) > WIDTH and outside and not inside:
            parts = [text[a:b].strip() for a, b in zip([0, *outside], [*outside, len(text)], strict=True)]
            self._lines.append(indent + parts[0])
            self._lines += [_INDENT + part for part in parts[1:]]
        else:
            self._lines.append(indent + text)

    def _level(self, first: int) -> int:
        """How deep the line that begins with this piece stands."""
        piece = self._pieces[first]
        if self._open:
            level = self._open[-1][1]
            return level if piece.kind == "sign" and piece.text in _OPENS.values() else level + 1
        following = first
        while following < len(self._pieces) and self._pieces[following].kind == "comment":
            following += 1
        at_start = following == len(self._pieces) or self._pieces[following].at in self._starts
        return 0 if at_start else 1

    def _breaks(self, number: int, piece: _Piece) -> bool:
        """Whether a long line may be broken before this piece, outside brackets."""
        if piece.text == "->":
            return True
        return piece.text == "." and self._is_operation(number)

    def _is_operation(self, dot: int) -> bool:
        """`.name(` or `.name as alias (`."""
        words = [piece.text for piece in self._pieces[dot + 1 : dot + 5]]
        return words[1:2] == ["("] or (words[1:2] == ["as"] and words[3:4] == ["("])

    def _is_alias(self, number: int) -> bool:
        return number > 0 and self._pieces[number - 1].text == "as"

    def _apart(self, number: int, before: _Piece, piece: _Piece) -> bool:
        """Whether there is a blank between a piece and the one before it in the same line."""
        if "comment" in (before.kind, piece.kind):
            return True
        left, right = before.text, piece.text
        if before.kind == "sign" and (left in ("(", "[", "{", ".", "?.", "~") or self._is_prefix(number - 1)):
            return False
        if piece.kind == "sign":
            if right in (",", ")", "]", "}", ".", "?."):
                return False
            if right == ":":
                return False
            if right == "?" or self._is_suffix(number):
                return False
            if right in ("(", "["):
                return self._begins_expression(number - 1)
        if left == ":" and before.kind == "sign":
            return not (self._open and self._open[-1][0] == "[")
        return True

    def _is_prefix(self, number: int) -> bool:
        """A `+` or `-` that is the sign of what follows."""
        if self._pieces[number].text not in ("+", "-") or self._is_suffix(number):
            return False
        return number == 0 or self._begins_expression(number - 1)

    def _is_suffix(self, number: int) -> bool:
        """A `+` or `*` that says how often: `B+ as many`."""
        if self._pieces[number].text not in ("+", "*") or self._begins_expression(number - 1):
            return False
        after = self._pieces[number + 1].text if number + 1 < len(self._pieces) else ""
        return after in ("as", ",", ")", "->", "")

    def _begins_expression(self, number: int) -> bool:
        """Whether what stands behind this piece begins an expression, and continues none."""
        piece = self._pieces[number]
        if piece.kind == "sign":
            return piece.text in _BINARY or piece.text in (",", ":", "(", "[", "{", "~")
        is_name = number > 0 and self._pieces[number - 1].text in (".", "?.")
        return piece.kind == "word" and piece.text in _LEADS and not is_name
