"""From source text to statements, in one linear pass, before any grammar.

Comments are blanked (positions stay). The source is cut where a statement begins: a statement word in the
form that begins one (`stream NAME =`), first on its line, outside brackets; or in the first column,
whatever an unclosed bracket above says. So each statement is parsed by itself and one broken statement does
not hide the errors of the others. Statements of the language that this version does not have are named
here, unparsed. Limits come first: nothing later sees a source that is larger or more deeply nested than
they allow.
"""

import re
from dataclasses import dataclass

from vpl.diagnostics import Diagnostic

MAX_SOURCE_BYTES = 256 * 1024
MAX_NESTING = 24
MAX_TOKENS = 20_000
MAX_NAME = 64

_TOKEN = re.compile(
    r"""(?P<newline>\n)
    |(?P<comment>\#[^\n]*|//[^\n]*)
    |(?P<block>/\*)
    |(?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\n]|'')*'|`[^`\n]+`)
    |(?P<quote>["'`])
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<word>[^\W\d]\w*)
    |(?P<other>[^\s\w]+?|\d\w*)""",
    re.VERBOSE,
)
_STATEMENT = re.compile(
    r"""(?P<known>(?:stream|const|let|var)[ \t]+\w+\s*[=:]
        |pattern[ \t]+\w+\s*=
        |connector[ \t]+\w+\s*=
        |event[ \t]+\w+\s*:
        |fn[ \t]+\w+\s*\()
    |(?P<refused>event[ \t]+\w+\s+extends\b
        |type[ \t]+\w+\s*=
        |context[ \t]+\w+
        |import[ \t]+["'\w]
        |config[ \t]+\w+\s*\{)""",
    re.VERBOSE,
)
_IMPERATIVE = re.compile(
    r"(?:let|var|const|for|while|elif|break|continue)\b|(?:if|else)\b[^\n]*:\s*(?:\n|$)|\w+\s*[-+*/]?=[^=]"
)
_REFUSED = {
    "event": (
        "`extends` is not available in this version",
        "write all fields into one `event` block",
    ),
    "fn": (
        "a function (`fn`) of several statements is not part of this language",
        "write one expression: `fn f(x: float) -> float: if x > 0 then x * 2 else 0`",
    ),
    "context": (
        "`context` is not part of this language",
        "deploy a pipeline of its own; workers run side by side",
    ),
    "import": ("`import` is not part of this language", "put the declarations into this source"),
    "config": ("`config` is not part of this language", "give settings as parameters of a connector"),
    "type": ("`type` declarations are not available in this version", "name the fields in an `event` block"),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one or more statements and the 1-based place where it begins."""

    text: str
    line: int
    column: int

    def place(self, line: int, column: int) -> tuple[int, int]:
        """The line and column in the whole source of a place in this text."""
        return self.line + line - 1, column + (self.column - 1 if line == 1 else 0)

    @property
    def is_event(self) -> bool:
        return re.match(r"event\s", self.text) is not None


@dataclass(frozen=True, slots=True)
class Layout:
    chunks: tuple[Chunk, ...]
    diagnostics: tuple[Diagnostic, ...]


def lay_out(source: str) -> Layout:
    """Cut `source` into statements. Anything over a limit gives diagnostics and no chunk at all."""
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        message = "the source holds half a character (a lone surrogate)"
        return Layout((), (Diagnostic("error", 1, 1, message, "send the source as UTF-8"),))
    if size > MAX_SOURCE_BYTES:
        message = f"the source is larger than {MAX_SOURCE_BYTES // 1024} KiB"
        return Layout((), (Diagnostic("error", 1, 1, message, "split it into several pipelines"),))
    return _Scanner(source).scan()


class _Scanner:
    def __init__(self, source: str) -> None:
        self.source = source
        self.pieces: list[str] = []  # the source without comments, in order
        self.copied = 0
        self.starts: list[tuple[int, int, int, bool]] = []  # offset, line, column, refused
        self.diagnostics: list[Diagnostic] = []
        self.broken: list[int] = []  # offsets of lexical errors; their statements are not parsed

    def scan(self) -> Layout:
        line, line_start, depth, position = 1, 0, 0, 0
        fresh = True  # nothing but blanks since the line began
        tokens = 0
        while token := _TOKEN.search(self.source, position):
            start, position = token.span()
            column = start - line_start + 1
            tokens += 1
            if tokens > MAX_TOKENS:
                message = f"the source has more than {MAX_TOKENS} words and signs"
                hint = "split it into several pipelines"
                return Layout((), (Diagnostic("error", line, column, message, hint),))
            if token.lastgroup == "word" and position - start > MAX_NAME:
                message = f"a name of more than {MAX_NAME} characters"
                self._error(start, line, column, message, "choose a shorter one")
            match token.lastgroup:
                case "newline":
                    line, line_start, fresh = line + 1, position, True
                    continue
                case "comment":
                    self._blank(start, position)
                    continue
                case "block":
                    end = self.source.find("*/", position)
                    if end < 0:
                        self._error(start, line, column, "a comment is never closed", "end it with `*/`")
                    position = len(self.source) if end < 0 else end + 2
                    self._blank(start, position)
                    if newlines := self.source.count("\n", start, position):
                        line, line_start = line + newlines, self.source.rfind("\n", start, position) + 1
                    continue
                case "quote":
                    hint = f"end it with `{token[0]}` on the same line"
                    self._error(start, line, column, "a text is never closed", hint)
                    end = self.source.find("\n", position)
                    position = len(self.source) if end < 0 else end
                case "open":
                    depth += 1
                    if depth == MAX_NESTING + 1:
                        message = f"brackets are nested more than {MAX_NESTING} deep"
                        self._error(start, line, column, message, "split the expression with `.select`")
                case "close":
                    depth = max(0, depth - 1)
                case "word" if fresh and (depth == 0 or column == 1):
                    inside = column > 1 and self.starts and self._is_function(self.starts[-1])
                    if not inside and (found := _STATEMENT.match(self.source, start)):
                        self.starts.append((start, line, column, found["refused"] is not None))
                        depth = 0
            fresh = False
        self._blank(len(self.source), len(self.source))
        return Layout(tuple(self._chunks("".join(self.pieces))), tuple(self.diagnostics))

    def _is_function(self, start: tuple[int, int, int, bool]) -> bool:
        """A `fn` in the first column: what stands further right is its body."""
        return start[2] == 1 and re.match(r"fn\s", self.source[start[0] : start[0] + 3]) is not None

    def _blank(self, start: int, end: int) -> None:
        self.pieces.append(self.source[self.copied : start])
        self.pieces.append(re.sub(r"[^\n]", " ", self.source[start:end]))
        self.copied = end

    def _error(self, offset: int, line: int, column: int, message: str, hint: str) -> None:
        self.diagnostics.append(Diagnostic("error", line, column, message, hint))
        self.broken.append(offset)

    def _chunks(self, text: str) -> list[Chunk]:
        chunks: list[Chunk] = []
        before = text[: self.starts[0][0]] if self.starts else text
        if before.strip():
            lead = len(before) - len(before.lstrip())
            line, column = before.count("\n", 0, lead) + 1, lead - (before.rfind("\n", 0, lead) + 1) + 1
            if not any(offset < len(before) for offset in self.broken):
                chunks.append(Chunk(before.strip(), line, column))
        ends = [start[0] for start in self.starts[1:]] + [len(text)]
        for (offset, line, column, refused), end in zip(self.starts, ends, strict=False):
            if refused:
                word = text[offset:end].split(None, 1)[0]
                self.diagnostics.append(Diagnostic("error", line, column, *_REFUSED[word]))
            elif _is_imperative(text[offset:end]):
                self.diagnostics.append(Diagnostic("error", line, column, *_REFUSED["fn"]))
            elif not any(offset <= place < end for place in self.broken):
                chunks.append(Chunk(text[offset:end].rstrip(), line, column))
        return chunks


def _is_imperative(statement: str) -> bool:
    """Whether it is a function whose body is made of statements."""
    if (head := re.match(r"fn\s+\w+\s*\([^()]*\)[^:\n]*:", statement)) is None:
        return False
    lines = [line.strip() for line in statement[head.end() :].split("\n")]
    returns = sum(line.startswith("return ") for line in lines)
    return returns > 1 or any(_IMPERATIVE.match(line) for line in lines)
