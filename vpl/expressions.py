"""Resolved expressions, turned into Python expressions.

The rule that makes this fast and safe: Python's own operator is used where the static types prove that it
means what the language means (`price > 30` needs only to know that `price` is a number), and a function of
`vpl.values` everywhere else. What is not made for its operands raises one of `vpl.values.MISMATCH`. Only
names chosen here get into the text: the parameters `e` (fields) and `ts`, `r` (a run of a sequence), `fn_...`
and `p_...` of declared functions, `fold_...` of aggregates over lists, temporaries `t1 t2 ...`, functions of
the two registries; whatever the program says appears as the `repr` of a text, number, list or map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vpl import ast, values
from vpl.functions import FUNCTIONS, show

_NUMERIC = frozenset(("int", "float", "number"))
_TYPE_NAMES = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    type(None): "null",
    list: "list",
    dict: "map",
}
_TYPE_TEST = {"bool": "bool", "int": "int", "float": "float", "str": "str", "list": "list", "map": "dict"}
_HELPERS = {
    "**": ("power", "number"),
    "<<": ("shift_left", "int"),
    ">>": ("shift_right", "int"),
    "&": ("bit_and", "int"),
    "|": ("bit_or", "int"),
    "^": ("bit_xor", "int"),
}

NAMESPACE: dict[str, Any] = {
    "__builtins__": {},
    **{f"f_{name}": function.call for name, function in FUNCTIONS.items()},
    **{
        function.__name__: function
        for function in (
            *(values.add, values.multiply, values.divide, values.remainder, values.power),
            *(values.shift_left, values.shift_right, values.bit_and, values.bit_or, values.bit_xor),
            *(values.equal, values.less, values.less_equal, values.contains, values.index, values.cut),
            *(values.member, values.optional_member, values.attempt, values.sized),
            *(values.boolean, values.integer, values.not_a_number, show),
        )
    },
    **{kind.__name__: kind for kind in (int, float, str, bool, list, dict)},
    "NUMBERS": values.NUMBERS,
    "MISMATCH": values.MISMATCH,
}


@dataclass(frozen=True, slots=True)
class Code:
    """A Python expression and what is known about its value: a type name of the language, or "any"."""

    text: str
    type: str = "any"


class ExpressionWriter:
    """Writes expressions over one event; `aggregates` gives the code of each aggregate where there are any.

    Temporaries are numbered per writer, so the same expression gives the same text in a fresh writer.
    """

    def __init__(self, event: str = "e", aggregates: Mapping[int, Code] | None = None) -> None:
        self._event = event
        self._aggregates = aggregates or {}
        self._temporaries = 0

    def write(self, expr: ast.Expr) -> Code:
        match expr:
            case ast.Literal(value=value):
                return Code(repr(value), _TYPE_NAMES[value.__class__])
            case ast.Field(name=name, fallback=None):
                return Code(f"{self._event}[{name!r}]")
            case ast.Field(name=name, fallback=ast.Literal(value=value)):
                return Code(f"{self._event}.get({name!r}, {value!r})")
            case ast.EventTime(name=name):
                return Code(f"{self._event}.get({name!r}, ts)")
            case ast.Member(value=value, name=name, optional=False):
                code = self.write(value)
                return Code(
                    f"{code.text}[{name!r}]" if code.type == "any" else f"member({code.text}, {name!r})"
                )
            case ast.Member(value=value, name=name):
                return Code(f"optional_member({self.maybe(value)}, {name!r})")
            case ast.Index(value=value, index=index):
                return Code(f"index({self.write(value).text}, {self.write(index).text})")
            case ast.Slice(value=value, start=start, stop=stop):
                ends = ", ".join("None" if end is None else self.write(end).text for end in (start, stop))
                return Code(f"cut({self.write(value).text}, {ends})")
            case ast.Call():
                return self._call(expr)
            case ast.Apply(function=name, args=args):
                return Code(f"fn_{name}({', '.join(self.write(arg).text for arg in args)})")
            case ast.Parameter(name=name):
                return Code(f"p_{name}")
            case ast.Aggregation():
                return self._aggregates[id(expr)]
            case ast.Captured(slot=slot):
                return Code(f"r[{slot}]")
            case ast.Fold(number=number, events=events):
                return Code(f"fold_{number}({self.write(events).text})")
            case ast.Unary():
                return self._unary(expr)
            case ast.Binary():
                return self._binary(expr)
            case ast.Logic(op=op, operands=operands):
                return Code(
                    f"({f' {op} '.join(self._boolean(self.write(part)) for part in operands)})", "bool"
                )
            case ast.TypeTest():
                return self._type_test(expr)
            case ast.IfElse(condition=condition, then=then, otherwise=otherwise):
                yes, no = self.write(then), self.write(otherwise)
                kind = yes.type if yes.type == no.type else "any"
                return Code(f"({yes.text} if {self._boolean(self.write(condition))} else {no.text})", kind)
            case ast.Array(items=items):
                return Code(f"sized([{', '.join(self.write(item).text for item in items)}])", "list")
            case ast.Map(entries=entries):
                parts = ", ".join(f"{key!r}: {self.write(value).text}" for key, value in entries)
                return Code(f"sized({{{parts}}})", "map")
        raise AssertionError(f"{type(expr).__name__} is left after name resolution")

    def number(self, expr: ast.Expr) -> str:
        """The code of `expr`, raising unless its value is a number."""
        return self._number(self.write(expr))

    def boolean(self, expr: ast.Expr) -> str:
        """The code of `expr`, raising unless its value is true or false."""
        return self._boolean(self.write(expr))

    def _number(self, code: Code) -> str:
        if code.type in _NUMERIC:
            return code.text
        t = self._temporary()
        return f"({t} if ({t} := {code.text}).__class__ in NUMBERS else not_a_number({t}))"

    @staticmethod
    def _boolean(code: Code) -> str:
        return code.text if code.type == "bool" else f"boolean({code.text})"

    def maybe(self, expr: ast.Expr) -> str:
        """The code of `expr`, null where it has no value."""
        match expr:
            case ast.Field(name=name, fallback=None):
                return f"{self._event}.get({name!r})"
            case ast.Literal() | ast.Field() | ast.EventTime() | ast.Parameter():
                return self.write(expr).text
        return f"attempt(lambda: {self.write(expr).text})"

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _call(self, call: ast.Call) -> Code:
        if call.function == "is_null":
            return self._type_test(ast.TypeTest(call.args[0], "null"))
        args = ", ".join(self.write(arg).text for arg in call.args)
        return Code(f"f_{call.function}({args})", FUNCTIONS[call.function].result)

    def _unary(self, expr: ast.Unary) -> Code:
        match expr.op:
            case "not":
                return Code(f"(not {self._boolean(self.write(expr.operand))})", "bool")
            case "~":
                return Code(f"(~integer({self.write(expr.operand).text}))", "int")
        return Code(f"({expr.op}{self._number(self.write(expr.operand))})", "number")

    def _type_test(self, expr: ast.TypeTest) -> Code:
        if isinstance(expr.value, ast.Literal):
            return Code(repr(values.TYPE_TESTS[expr.type_name](expr.value.value) is not expr.negated), "bool")
        value, no = self.maybe(expr.value), " not" if expr.negated else ""
        if expr.type_name == "null":
            return Code(f"({value} is{no} None)", "bool")
        if expr.type_name == "number":
            return Code(f"({value}.__class__{no} in NUMBERS)", "bool")
        return Code(f"({value}.__class__ is{no} {_TYPE_TEST[expr.type_name]})", "bool")

    def _binary(self, expr: ast.Binary) -> Code:
        match expr.op:
            case "??":
                t, left, right = self._temporary(), self.maybe(expr.left), self.write(expr.right).text
                return Code(f"({t} if ({t} := {left}) is not None else {right})")
            case "in" | "not in":
                return self._membership(expr)
            case "==" | "!=":
                return self._equality(expr)
            case "<" | "<=" | ">" | ">=":
                return self._order(expr)
            case "+" | "-" | "*":
                return self._sum_or_product(expr)
            case "/" | "%":
                return self._quotient(expr)
        helper, kind = _HELPERS[expr.op]
        return Code(f"{helper}({self.write(expr.left).text}, {self.write(expr.right).text})", kind)

    def _membership(self, expr: ast.Binary) -> Code:
        item, no = self.write(expr.left).text, "not " if expr.op == "not in" else ""
        if isinstance(expr.right, ast.Array):
            options = [option.value for option in expr.right.items if isinstance(option, ast.Literal)]
            if len(options) == len(expr.right.items) and all(type(option) is str for option in options):
                return Code(f"({item} {no}in {tuple(options)!r})", "bool")
        return Code(f"({no}contains({self.write(expr.right).text}, {item}))", "bool")

    def _equality(self, expr: ast.Binary) -> Code:
        left, right = self.write(expr.left), self.write(expr.right)
        for code, other in ((left, expr.right), (right, expr.left)):
            singleton = isinstance(other, ast.Literal) and (other.value is None or type(other.value) is bool)
            if singleton and code.type in ("any", "bool"):
                sign = "is" if expr.op == "==" else "is not"
                return Code(f"({code.text} {sign} {self.write(other).text})", "bool")
        if self._same_as_python(left, expr.left) or self._same_as_python(right, expr.right):
            return Code(f"({left.text} {expr.op} {right.text})", "bool")
        no = "not " if expr.op == "!=" else ""
        return Code(f"({no}equal({left.text}, {right.text}))", "bool")

    @staticmethod
    def _same_as_python(code: Code, expr: ast.Expr) -> bool:
        """Python's `==` is the language's when one side is a text, or a number that no boolean equals."""
        return code.type == "str" or (
            code.type in ("int", "float") and isinstance(expr, ast.Literal) and expr.value not in (0, 1)
        )

    def _order(self, expr: ast.Binary) -> Code:
        left, right = self.write(expr.left), self.write(expr.right)
        if left.type in _NUMERIC or right.type in _NUMERIC:
            return Code(f"({self._number(left)} {expr.op} {self._number(right)})", "bool")
        if left.type == "str" or right.type == "str":  # Python orders a text only with a text
            return Code(f"({left.text} {expr.op} {right.text})", "bool")
        a, b = self._temporary(), self._temporary()
        numbers = (
            f"(({a} := {left.text}).__class__ in NUMBERS) & (({b} := {right.text}).__class__ in NUMBERS)"
        )
        slow = f"{'less' if len(expr.op) == 1 else 'less_equal'}({a if '<' in expr.op else f'{b}, {a}'}"
        slow += f", {b})" if "<" in expr.op else ")"
        return Code(f"({a} {expr.op} {b} if {numbers} else {slow})", "bool")

    def _sum_or_product(self, expr: ast.Binary) -> Code:
        left, right = self.write(expr.left), self.write(expr.right)
        numeric = left.type in _NUMERIC or right.type in _NUMERIC
        kind = "int" if left.type == right.type == "int" else "number"
        constant = isinstance(expr.left, ast.Literal) or isinstance(expr.right, ast.Literal)
        # Products of unknown integers could grow without end from stream to stream: multiply() bounds them.
        if expr.op == "-" or (numeric and (expr.op == "+" or constant)):
            return Code(f"({self._number(left)} {expr.op} {self._number(right)})", kind)
        if expr.op == "+":
            return Code(f"add({left.text}, {right.text})")
        a, b = self._temporary(), self._temporary()
        fast = f"(({a} := {left.text}).__class__ is float) & (({b} := {right.text}).__class__ in NUMBERS)"
        return Code(f"({a} * {b} if {fast} else multiply({a}, {b}))", kind)

    def _quotient(self, expr: ast.Binary) -> Code:
        left, right = self.write(expr.left).text, self.write(expr.right).text
        helper = "divide" if expr.op == "/" else "remainder"
        if not (
            isinstance(expr.right, ast.Literal) and type(expr.right.value) is int and expr.right.value > 0
        ):
            return Code(f"{helper}({left}, {right})", "number")
        t = self._temporary()
        sign = "//" if expr.op == "/" else "%"
        fast = f"({t} := {left}).__class__ is int and {t} >= 0"
        return Code(f"({t} {sign} {right} if {fast} else {helper}({t}, {right}))", "number")


def evaluate(expr: ast.Expr) -> Any:
    """The value of an expression over no event (of a `const`); raises one of `MISMATCH`."""
    code = ExpressionWriter().write(expr)
    function: Callable[..., Any] = eval(  # noqa: S307 - text made above, from known node types only
        compile(f"lambda e, ts: {code.text}", "<vpl>", "eval"), dict(NAMESPACE)
    )
    return function({}, 0)
