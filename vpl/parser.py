"""From source text to the syntax tree; any text gives either statements or diagnostics, never another error.

`vpl.layout` has cut the source into statements; each is parsed by itself with the LALR grammar (built once
per process) and shifted to its place. A syntax error says in words what was found and what could have stood
there. Two more limits hold before the tree is built by recursion: its height (so that neither we nor the
Python compiler run out of stack on the code made from it) and the number of streams.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from vpl import ast
from vpl.diagnostics import Diagnostic, VplError
from vpl.layout import Chunk, lay_out
from vpl.tree import TreeBuilder

MAX_STREAMS = 500
MAX_HEIGHT = 40

_WORDS = {
    "NAME": "a name",
    "OPERATION": "an operation like `.where(...)`",
    "ARROW": "`->`",
    "COLON": "`:`",
    "KIND": "`const`, `let` or `var`",
    "ALL": "`all`",
    "$END": "the end of the statement",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "RSQB": "`]`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "EQUAL": "`=`",
}
_EXPRESSION = {
    "FLOAT",
    "INT",
    "TEXT",
    "RAW_TEXT",
    "TIMESTAMP",
    "DURATION",
    "NULL",
    "LPAR",
    "IF",
    "NAME",
    "TILDE",
}
_OPERATORS = {"PLUS", "STAR", "SLASH", "COMPARE", "AND", "OR", "IN", "IS", "BAR", "DOT", "POWER", "SHIFT"}
_COMPARISON = re.compile(r"[=!<>]=|[<>](?![<>])")
_WORD = re.compile(r"\w+|[=!<>]=|\*\*|->|<<|>>|\?\?|\?\.|.")
_HINTS = {
    "=>": "functions like `x => ...` are not available in this version",
    ":=": "a variable is set once, with `var name = ...`",
    "=": "equality is written `==`",
    "&&": "write `and`",
    "||": "write `or`",
    "!": "write `not`",
    ";": "statements need no `;`",
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """The statements that could be read, and a diagnostic for each that could not."""

    statements: tuple[ast.Statement, ...]
    diagnostics: tuple[Diagnostic, ...]


@cache
def _grammar() -> Lark:
    text = files("vpl").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        text, parser="lalr", propagate_positions=True, maybe_placeholders=True, start=["statements", "event"]
    )


def parse(source: str) -> Parsed:
    """Parse a whole program; raises nothing."""
    layout = lay_out(source)
    diagnostics = list(layout.diagnostics)
    statements: list[ast.Statement] = []
    for chunk in layout.chunks:
        try:
            statements += _parse_chunk(chunk)
        except VplError as error:
            diagnostics += error.diagnostics
    streams = [statement for statement in statements if isinstance(statement, ast.Stream)]
    if len(streams) > MAX_STREAMS:
        over = streams[MAX_STREAMS]
        message = f"more than {MAX_STREAMS} streams in one program"
        diagnostics.append(
            Diagnostic("error", over.line, over.column, message, "split it into several pipelines")
        )
        statements = []
    return Parsed(tuple(statements), tuple(diagnostics))


def _parse_chunk(chunk: Chunk) -> list[ast.Statement]:
    start = "event" if chunk.is_event else "statements"
    try:
        tree = _grammar().parse(chunk.text, start=start)
    except UnexpectedInput as error:
        raise VplError([_syntax_error(chunk, error)]) from None
    _check_height(tree, chunk)
    return TreeBuilder(chunk).statements(tree)


def _check_height(tree: Tree[Token], chunk: Chunk) -> None:
    level: list[Tree[Token]] = [tree]
    for _ in range(MAX_HEIGHT + 4):  # statements, stream, operation and argument stand above an expression
        level = [child for parent in level for child in parent.children if isinstance(child, Tree)]
        if not level:
            return
    line, column = chunk.place(level[0].meta.line, level[0].meta.column)
    message = f"the expression is more than {MAX_HEIGHT} operators high"
    raise VplError([Diagnostic("error", line, column, message, "compute parts of it in a `.select` before")])


def _syntax_error(chunk: Chunk, error: UnexpectedInput) -> Diagnostic:
    line, column = chunk.place(error.line, error.column) if error.line > 0 else _end_of(chunk)
    expected: set[str] = set()
    at_end = False
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        at_end = error.token.type == "$END"
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
    if at_end:
        line, column = _end_of(chunk)
    before, rest = ("", "") if at_end else _line_around(chunk.text, error)
    message = f"found {_found(rest, at_end)}, expected {_in_words(expected, first=line == chunk.line)}"
    return Diagnostic("error", line, column, message, _hint(before, rest, expected, chunk))


def _end_of(chunk: Chunk) -> tuple[int, int]:
    lines = chunk.text.rstrip().split("\n")
    return chunk.place(len(lines), len(lines[-1]) + 1)


def _line_around(text: str, error: UnexpectedInput) -> tuple[str, str]:
    lines = text.split("\n")
    line = lines[error.line - 1] if 0 < error.line <= len(lines) else ""
    return line[: error.column - 1], line[error.column - 1 :]


def _found(rest: str, at_end: bool) -> str:
    if at_end or not rest.strip():
        return "the end of the statement"
    word = rest.split(None, 1)[0]
    return f"`{_WORD.match(word)[0][:40]}`"  # type: ignore[index]  # it takes any first character


def _in_words(expected: set[str], *, first: bool) -> str:
    words: list[str] = []
    rest = set(expected)
    if {"STREAM", "CONNECTOR"} <= rest and "OPERATION" not in rest and first:
        return "`connector`, `event`, `const`, `let`, `var` or `stream`"
    if len(_EXPRESSION & rest) > 6:
        words.append("an expression")
        rest -= _EXPRESSION | {"NOT", "MINUS", "PLUS", "TRUE", "FALSE", "LSQB", "LBRACE"}
    elif len(_OPERATORS & rest) > 6:
        words.append("an operator")
        rest &= {"RPAR", "RSQB", "RBRACE", "COMMA", "OPERATION", "$END", "THEN", "ELSE"}
    if {"STREAM", "CONNECTOR"} <= rest:
        rest -= {"STREAM", "CONNECTOR", "KIND"}
    words += sorted(_WORDS.get(name, f"`{name.lower()}`") for name in rest if not name.startswith("__"))
    if not words:
        return "something else"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _hint(before: str, rest: str, expected: set[str], chunk: Chunk) -> str | None:
    for text, hint in _HINTS.items():
        if (rest.startswith(text) or (before + rest[:1]).endswith(text)) and (
            text != "=" or "COMPARE" in expected
        ):
            return hint
    if re.match(r"\.\s*\w+", rest) and "OPERATION" in expected:
        return "an operation has brackets: `.emit()`"
    if re.match(r"\.\s*\w+\s*\(", rest) or (rest[:1] == "(" and re.search(r"\.\s*\w+\s*$", before)):
        return "functions are called as `f(x)`, not as `x.f()`; or is a `)` missing before?"
    if _COMPARISON.match(rest) and "COMPARE" not in expected:
        return "comparisons do not chain: write `a < b and b < c`"
    if not rest and chunk.text.count("(") > chunk.text.count(")"):
        return "a `(` is never closed"
    return None
