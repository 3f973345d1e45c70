"""The parser's trees, turned into the typed nodes of `vpl.ast`.

One method per rule of the grammar, found by the rule's name. Literals get their values here: durations and
timestamps become milliseconds, chains of `and` / `or` one flat node, a `-` before a number part of the
number.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lark import Token, Tree

from vpl import ast
from vpl.diagnostics import Diagnostic, VplError
from vpl.layout import Chunk

MAX_DIGITS = 300
_GROUPS = ("SEQ", "AND", "OR")
MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class TreeBuilder:
    """Builds the nodes of one chunk of the source."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk

    def statements(self, tree: Tree[Token]) -> list[ast.Statement]:
        parts = [tree] if tree.data == "event" else tree.children
        return [self._build(part) for part in parts]

    def _build(self, tree: Any) -> Any:
        if tree is None:
            return None
        method: Callable[[Tree[Token]], Any] = getattr(self, f"_{tree.data.rstrip('_')}")
        return method(tree)

    def _at(self, place: Any) -> dict[str, Any]:
        meta = place.meta if isinstance(place, Tree) else place
        line, column = self._chunk.place(meta.line, meta.column)
        return {"line": line, "column": column}

    def _refuse(self, place: Any, message: str, hint: str) -> VplError:
        return VplError([Diagnostic("error", **self._at(place), message=message, hint=hint)])

    # -- statements

    def _connector(self, tree: Tree[Any]) -> ast.Connector:
        name, kind, *params = tree.children
        return ast.Connector(str(name), str(kind), self._args(params), **self._at(name))

    def _definition(self, tree: Tree[Any]) -> ast.Definition:
        kind, name, _, value = tree.children
        return ast.Definition(str(name), str(kind), self._build(value), **self._at(name))

    def _event(self, tree: Tree[Any]) -> ast.EventType:
        name, *fields = tree.children
        pairs = tuple((str(field.children[0]), self._build(field.children[1])) for field in fields)
        return ast.EventType(str(name), pairs, **self._at(name))

    def _function(self, tree: Tree[Any]) -> ast.Function:
        name, *rest = tree.children
        body = rest[-1]
        pairs = tuple(
            (str(p.children[0]), "" if p.children[-1] is None else self._build(p.children[-1]))
            for p in rest
            if isinstance(p, Tree) and p.data == "parameter"
        )
        return ast.Function(str(name), pairs, self._build(body), **self._at(name))

    def _type(self, tree: Tree[Any]) -> str:
        return " ".join(str(c) if isinstance(c, Token) else self._type(c) for c in tree.children)

    def _stream(self, tree: Tree[Any]) -> ast.Stream:
        name, _, source, *operations = tree.children
        steps = tuple(self._build(operation) for operation in operations)
        return ast.Stream(str(name), self._build(source), steps, **self._at(name))

    def _source(self, tree: Tree[Any]) -> ast.Source:
        every, name, where, alias = tree.children
        return ast.Source(
            str(name),
            str(alias) if alias else None,
            every=every is not None,
            where=self._build(where),
            **self._at(name),
        )

    def _combinator(self, tree: Tree[Any]) -> ast.Source:
        name, *args = tree.children
        return ast.Source(str(name), combinator=True, args=self._args(args), **self._at(name))

    def _operation(self, tree: Tree[Any]) -> ast.Operation:
        _, name, alias, *args = tree.children
        text = f"{name} as" if alias else str(name)
        return ast.Operation(text, self._args(args), **self._at(name))

    def _step(self, tree: Tree[Any]) -> ast.Operation:
        arrow, every, name, where, alias = tree.children
        part = ast.Part(
            str(name),
            str(alias) if alias else None,
            self._build(where),
            every is not None,
            **self._at(name),
        )
        return ast.Step("->", (), "any", (part,), **self._at(arrow))

    # -- patterns

    def _pattern(self, tree: Tree[Any]) -> ast.Pattern:
        name, group, within, key = tree.children
        options = [
            ast.Operation(operation, (ast.Argument(None, self._build(value), **self._at(value)),), **at)
            for operation, value in (("within", within), ("partition_by", key))
            if value is not None
            for at in (self._at(value),)
        ]
        return ast.Pattern(str(name), tuple(self._steps(group)), tuple(options), **self._at(name))

    def _steps(self, group: Tree[Any]) -> list[ast.Step]:
        name, *members = group.children
        if str(name) not in _GROUPS:
            hint = "write `SEQ(A as a, B as b)`, `AND(A, B)` or `OR(A, B)`"
            raise self._refuse(name, f"`{name}` is no pattern", hint)
        if str(name) != "SEQ":
            return [self._together(group)]
        steps = []
        for member in members:
            if member is None:
                continue
            if member.data == "group":
                steps.append(self._together(member))
            else:
                kind = "never" if member.children[0] is not None else "any"
                steps.append(ast.Step("->", (), kind, (self._part(member),), **self._at(member)))
        return steps

    def _together(self, group: Tree[Any]) -> ast.Step:
        name, *members = group.children
        kind = {"AND": "all", "OR": "any"}.get(str(name))
        parts = [member for member in members if member is not None]
        if kind is None or any(part.data == "group" or part.children[0] is not None for part in parts):
            hint = "give the parts to one `SEQ`, or make streams of them first"
            raise self._refuse(
                name, "`AND` and `OR` hold types of events, no `SEQ`, `AND`, `OR` or `NOT`", hint
            )
        return ast.Step("->", (), kind, tuple(map(self._part, parts)), **self._at(group))

    def _part(self, tree: Tree[Any]) -> ast.Part:
        _, name, often, where, alias = tree.children
        if often == "*":
            hint = "write `T+`, or a pattern of its own for the case that none comes"
            raise self._refuse(often, "`*`, none or more, is not part of patterns", hint)
        return ast.Part(
            str(name),
            str(alias) if alias else None,
            self._build(where),
            often is not None,
            **self._at(name),
        )

    def _args(self, trees: list[Any]) -> tuple[ast.Argument, ...]:
        return tuple(self._build(tree) for tree in trees if tree is not None)

    def _argument(self, tree: Tree[Any]) -> ast.Argument:
        name, value, where = tree.children
        place = self._at(name if name is not None else tree)
        return ast.Argument(str(name) if name else None, self._build(value), self._build(where), **place)

    # -- operators

    def _coalesce(self, tree: Tree[Any]) -> ast.Expr:
        left, right = map(self._build, tree.children)
        return ast.Binary("??", left, right, **self._at(tree))

    def _or(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Logic("or", tuple(map(self._build, tree.children)), **self._at(tree))

    def _and(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Logic("and", tuple(map(self._build, tree.children)), **self._at(tree))

    def _negation(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Unary("not", self._build(tree.children[0]), **self._at(tree))

    def _binary(self, tree: Tree[Any]) -> ast.Expr:
        left, op, right = tree.children
        return ast.Binary(str(op), self._build(left), self._build(right), **self._at(tree))

    def _not_in(self, tree: Tree[Any]) -> ast.Expr:
        left, _, right = tree.children
        return ast.Binary("not in", self._build(left), self._build(right), **self._at(tree))

    def _type_test(self, tree: Tree[Any]) -> ast.Expr:
        value, negated, name = tree.children
        return ast.TypeTest(self._build(value), str(name.children[0]), negated is not None, **self._at(tree))

    def _unary(self, tree: Tree[Any]) -> ast.Expr:
        op, operand = str(tree.children[0]), self._build(tree.children[1])
        number = isinstance(operand, ast.Literal) and type(operand.value) in (int, float)
        if number and op in "+-":
            return ast.Literal(-operand.value if op == "-" else operand.value, **self._at(tree))
        return ast.Unary(op, operand, **self._at(tree))

    def _member(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Member(self._build(tree.children[0]), _unquoted(tree.children[1]), **self._at(tree))

    def _optional_member(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Member(self._build(tree.children[0]), _unquoted(tree.children[1]), True, **self._at(tree))

    def _index(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Index(*map(self._build, tree.children), **self._at(tree))

    def _slice(self, tree: Tree[Any]) -> ast.Expr:
        value, start, _, stop = tree.children
        return ast.Slice(self._build(value), self._build(start), self._build(stop), **self._at(tree))

    def _if_else(self, tree: Tree[Any]) -> ast.Expr:
        return ast.IfElse(*map(self._build, tree.children), **self._at(tree))

    # -- primaries

    def _name(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Name(_unquoted(tree.children[0]), **self._at(tree))

    def _call(self, tree: Tree[Any]) -> ast.Expr:
        name, *args = tree.children
        return ast.Call(str(name), tuple(self._build(a) for a in args if a is not None), **self._at(tree))

    def _array(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Array(tuple(self._build(c) for c in tree.children if c is not None), **self._at(tree))

    def _map(self, tree: Tree[Any]) -> ast.Expr:
        entries = tuple((self._key(c), self._build(c.children[1])) for c in tree.children if c is not None)
        return ast.Map(entries, **self._at(tree))

    def _key(self, entry: Tree[Any]) -> str:
        token: Any = entry.children[0]
        if token.type == "NAME":
            return str(token)
        return _raw(token) if token.type == "RAW_TEXT" else self._decode(token)

    def _null(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Literal(None, **self._at(tree))

    def _true(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Literal(True, **self._at(tree))

    def _false(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Literal(False, **self._at(tree))

    def _int(self, tree: Tree[Any]) -> ast.Expr:
        digits = str(tree.children[0])
        if len(digits) > MAX_DIGITS:
            raise self._refuse(tree, f"a number of more than {MAX_DIGITS} digits", "write a smaller number")
        return ast.Literal(int(digits), **self._at(tree))

    def _float(self, tree: Tree[Any]) -> ast.Expr:
        value = float(str(tree.children[0]))
        if value == float("inf"):
            raise self._refuse(tree, "the number is too large", "the largest is about 1.8e308")
        return ast.Literal(value, **self._at(tree))

    def _duration(self, tree: Tree[Any]) -> ast.Expr:
        text = str(tree.children[0])
        digits = text.rstrip("mshd")
        if len(digits) > 15:
            raise self._refuse(tree, "the duration is too long", "write at most 15 digits")
        return ast.Duration(int(digits) * MILLISECONDS[text[len(digits) :]], **self._at(tree))

    def _timestamp(self, tree: Tree[Any]) -> ast.Expr:
        text = str(tree.children[0])[1:]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._refuse(
                tree, f"`@{text}` is not a time", "write it as @2026-01-02T03:04:05Z"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return ast.Literal(round(moment.timestamp() * 1000), **self._at(tree))

    def _text(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Literal(self._decode(tree.children[0]), **self._at(tree))

    def _raw_text(self, tree: Tree[Any]) -> ast.Expr:
        return ast.Literal(_raw(tree.children[0]), **self._at(tree))

    def _decode(self, token: Any) -> str:
        try:
            text = json.loads(token, strict=False)
            text.encode()  # refuses lone surrogates, which no JSON writer downstream would take
        except ValueError:
            hint = r"""use \" \\ \n \t \r \uXXXX, or '...' for text without escapes"""
            raise self._refuse(token, "the text has an escape that is not known", hint) from None
        return str(text)


def _raw(token: Any) -> str:
    return str(token)[1:-1].replace("''", "'")


def _unquoted(token: Any) -> str:
    """A name, or a field of any name between backticks."""
    return str(token).strip("`")
