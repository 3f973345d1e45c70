"""Expressions: a table of what each form means, and generated code held against the oracle."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vpl import oracle
from vpl import ast, compile_source
from vpl.compile import function_text
from vpl.expressions import NAMESPACE, ExpressionWriter
from vpl.plan import Function
from vpl.values import MISMATCH

NONE = object()
EVENT = {
    "i": 7, "neg": -7, "zero": 0, "big": 2**63, "f": 2.5, "t": True, "n": None, "s": "héllo", "e": "",
    "l": [1, "a", True], "m": {"k": 5, "deep": {"x": None}}, "type": "soft", "stream": 1, "count": 2, "if": 3,
}  # fmt: skip

TABLE: list[tuple[str, Any]] = [
    ("i + 1", 8), ("i + f", 9.5), ("i - 10", -3), ("i * i", 49), ("f * 2", 5.0), ("i / 2", 3),
    ("neg / 2", -3),
    ("i / -2", -3), ("neg / -2", 3), ("i / 2.0", 3.5), ("f / 2", 1.25), ("i % 4", 3), ("neg % 4", -3),
    ("i % -4", 3),
    ("f % 2", 0.5), ("2 ** 10", 1024), ("2 ** -1", 0.5), ("2 ** 3 ** 2", 512), ("-2 ** 2", 4), ("-i", -7),
    ("~i", -8),
    ("big + 1", 2**63 + 1), ("big * big", 2**126), ("i / 0", NONE), ("i % 0", NONE), ("f / 0", NONE),
    ("0 / i", 0),
    ("i & 3", 3), ("i | 8", 15), ("i ^ 2", 5), ("1 << 4", 16), ("i >> 1", 3), ("1 << 5000", NONE),
    ("1 << -1", NONE),
    ("f & 1", NONE), ("2 ** 5000", NONE), ("(big ** 60) * (big ** 60)", NONE), ("1 | 2 ^ 3 & 1", 3),
    ("t + 1", NONE), ("t > 0", NONE), ("t == 1", False), ("1 == t", False), ("t == true", True),
    ("i == 7.0", True),
    ("i == \"7\"", False), ("s != 7", True), ("n == null", True), ("i == null", False),
    ("missing == null", NONE),
    ("i in [7, 8]", True), ("t in [1]", False), ("1 in l", True), ("\"a\" in l", True),
    ("s in [\"héllo\", 'x']", True),
    ("\"k\" in m", True), ("\"q\" not in m", True), ("\"é\" in s", True), ("i in s", NONE),
    ("i not in [1]", True),
    ("i > 3 and f < 3", True), ("i > 9 and missing", False), ("i > 3 or missing", True), ("not t", False),
    ("not i == 7", False), ("i and t", NONE), ("not i", NONE), ("s > \"a\"", True), ("s > 1", NONE),
    ("l > l", NONE),
    ("i < 8", True), ("i <= f", False), ("s >= s", True), ("n < 1", NONE), ("missing > 3", NONE),
    ("missing ?? 5", 5), ("n ?? 5", 5), ("i ?? 5", 7), ("i / 0 ?? -1", -1), ("missing ?? n ?? 3", 3),
    ("zero ?? 1", 0),
    ("m.k", 5), ("m.deep.x", None), ("m.q", NONE), ("m?.q", None), ("missing?.q", None), ("n?.a?.b", None),
    ("s.x", NONE), ("i?.x", NONE), ("m?.k + 1", 6), ("l[0]", 1), ("l[-1]", True), ("l[9]", NONE),
    ("l[t]", NONE),
    ("s[1]", "é"), ("m[\"k\"]", 5), ("s[1:3]", "él"), ("l[1:]", ["a", True]), ("l[:1]", [1]), ("i[0]", NONE),
    ("if i > 3 then \"a\" else \"b\"", "a"), ("if n then 1 else 2", NONE), ("1 + (if t then 1 else 2)", 2),
    ("i is int", True), ("f is int", False), ("f is number", True), ("t is number", False),
    ("n is null", True),
    ("missing is null", True), ("i is not null", True), ("l is list", True), ("m is map", True),
    ("s is str", True),
    ("5 is int", True), ("\"x\" is not str", False), ("is_null(missing)", True), ("is_null(i)", False),
    ("coalesce(missing, n, 4)", 4), ("[i, s]", [7, "héllo"]), ("{a: i, 'b c': 1}", {"a": 7, "b c": 1}),
    ("[]", []),
    ("s + \"!\"", "héllo!"), ("s + 1", NONE), ("l + [2]", [1, "a", True, 2]), ("s * 3", NONE),
    ("l * 2", NONE),
    ("type", "soft"), ("stream + count", 3), ("m.k == 5", True), ("500ms", 500), ("2m + 1s", 121_000),
    ("1d", 86_400_000),
    ("@1970-01-02T00:00:00Z", 86_400_000), ("@1970-01-01", 0), ("@1970-01-01T01:00+01:00", 0), ("ts", 99),
    ("event_type", "E"), ("1e3", 1000.0), ("9223372036854775807 + 1", 2**63), ("\"a\\n\\u00e9\"", "a\né"),
    ("'a\\n'", "a\\n"),
    ("abs(neg)", 7), ("sqrt(16)", 4.0), ("sqrt(neg)", NONE), ("floor(2.9)", 2), ("ceil(2.1)", 3),
    ("round(2.5)", 3),
    ("round(-2.5)", -3), ("round(2.675, 2)", 2.68), ("round(i)", 7), ("pow(2, 3)", 8), ("log(1)", 0.0),
    ("exp(0)", 1.0),
    ("log(8, 2)", 3.0), ("log10(1000)", 3.0), ("min(3, 1, 2)", 1), ("max([1, 5])", 5),
    ("min(1, \"a\")", NONE), ("max([])", NONE),
    ("len(s)", 5), ("len(l)", 3), ("len(m)", 2), ("len(i)", NONE), ("contains(s, \"ll\")", True),
    ("contains(l, 1)", True),
    ("lower(\"ÀB\")", "àb"), ("upper(s)", "HÉLLO"), ("trim(\"  x \")", "x"),
    ("split(\"a,b\", \",\")", ["a", "b"]),
    ("split(s, \"\")", NONE), ("join([\"a\", \"b\"], \"-\")", "a-b"), ("join(l, \",\")", NONE),
    ("replace(s, \"l\", \"L\")", "héLLo"), ("starts_with(s, \"hé\")", True), ("ends_with(s, \"x\")", False),
    ("substring(s, 1)", "éllo"), ("substring(s, 1, 2)", "él"), ("substring(s, -1)", NONE),
    ("index_of(s, \"l\")", 2),
    ("to_int(\"42\")", 42), ("to_int(\" -7.9 \")", -7), ("to_int(\"4_2\")", NONE), ("to_int(f)", 2),
    ("to_int(n)", NONE),
    ("to_float(\"1.5e2\")", 150.0), ("to_float(\"nan\")", NONE), ("to_string(i)", "7"),
    ("to_string(t)", "true"),
    ("to_string(n)", "null"), ("to_string(l)", NONE), ("regex_match(s, \"^h.l+o$\")", True),
    ("regex_match(i, 'x')", NONE),
    ("sign(neg)", -1), ("f ** t", NONE), ("log(t, 2)", NONE), ("clamp(i, 0, 5)", 5),
    ("keys(m)", ["k", "deep"]), ("values({a: 1})", [1]), ("to_int(t)", 1),
]  # fmt: skip


def emitted(expression: str, event: dict[str, Any]) -> dict[str, Any]:
    engine = compile_source(f"stream S = E.emit(x: {expression}, kept: 1)").start()
    engine.process("E", event, 99)
    [(_, _, fields, _)] = engine.take()
    assert fields.pop("kept") == 1
    assert engine.counters["mismatches"] == (0 if fields else 1)
    return fields


@pytest.mark.parametrize(("expression", "value"), TABLE, ids=[row[0] for row in TABLE])
def test_an_expression_has_this_value_or_leaves_its_field_out(expression: str, value: Any) -> None:
    fields = emitted(expression, EVENT)
    if value is NONE:
        assert fields == {}
    else:
        assert fields["x"] == value
        assert type(fields["x"]) is type(value)


@pytest.mark.parametrize("expression", ["t", "i > 3", "missing > 3", "i", "n", "s == 1 or missing"])
def test_where_lets_through_only_what_is_true(expression: str) -> None:
    engine = compile_source(f"stream S = E.where({expression}).emit(ok: true)").start()
    engine.process("E", EVENT, 0)
    assert len(engine.take()) == (1 if expression in ("t", "i > 3") else 0)
    assert engine.counters["mismatches"] == (0 if expression in ("t", "i > 3") else 1)


def test_a_constant_is_used_only_where_the_event_has_no_such_field() -> None:
    engine = compile_source("const LIMIT = 10\nstream S = E.where(v > LIMIT).emit(limit: LIMIT)").start()
    for event in ({"v": 11}, {"v": 11, "LIMIT": 20}, {"v": 21, "LIMIT": 20}):
        engine.process("E", event, 0)
    assert [fields for _, _, fields, _ in engine.take()] == [{"limit": 10}, {"limit": 20}]


@pytest.mark.parametrize(
    "form",
    ["({} + 1)", "({} * x)", "-x / {}", "({} == y)", "abs({})", "[{}]", "({} ?? 1)", "(if x then {} else 2)",
     "({})[x]", "({} > x)", "(not {})", "({}).a", "({})?.a", "({} % 3)", "(x in {})", "is_null({})",
     "coalesce({}, x)"],
)  # fmt: skip
def test_the_highest_expression_that_the_parser_takes_can_be_compiled(form: str) -> None:
    deepest = 0
    for height in range(1, 60):
        text = "x"
        for _ in range(height):
            text = form.replace("{}", text)
        try:
            compile_source(f"stream S = E.emit(v: {text})").start().process("E", {"x": 1}, 0)
        except Exception as error:
            assert "nested" in str(error) or "high" in str(error)
            break
        deepest = height
    assert deepest >= 11


names = st.sampled_from(["i", "f", "t", "n", "s", "l", "m", "missing", "neg", "zero"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0.0, 1.0, -2.5, 1e300])
    | st.sampled_from(["", "a", "k", "héllo"])
)
leaves: st.SearchStrategy[ast.Expr] = (
    st.builds(ast.Literal, scalars)
    | st.builds(ast.Field, names)
    | st.builds(ast.Field, names, st.builds(ast.Literal, scalars))
)
OPERATORS = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "not in",
    "??",
    "&",
    "|",
    "^",
    "<<",
    ">>",
]
TYPES = ["null", "bool", "int", "float", "number", "str", "list", "map"]


def larger(inner: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(ast.Binary, st.sampled_from(OPERATORS), inner, inner),
        st.builds(ast.Unary, st.sampled_from(["-", "+", "~", "not"]), inner),
        st.builds(ast.Logic, st.sampled_from(["and", "or"]), several),
        st.builds(ast.IfElse, inner, inner, inner),
        st.builds(ast.TypeTest, inner, st.sampled_from(TYPES), st.booleans()),
        st.builds(ast.Array, several),
        st.builds(ast.Member, inner, st.sampled_from(["k", "deep"]), st.booleans()),
        st.builds(ast.Index, inner, inner),
    )


expressions = st.recursive(leaves, larger, max_leaves=12)
values = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["k", "deep"]), v, max_size=2),
    max_leaves=4,
)
events = st.dictionaries(names, values)


@settings(max_examples=500)
@given(expressions, events)
def test_generated_code_means_what_the_oracle_means(expr: ast.Expr, event: dict[str, Any]) -> None:
    agree(expr, event, dict(NAMESPACE))


bodies = st.recursive(
    st.builds(ast.Literal, scalars) | st.builds(ast.Parameter, st.sampled_from(["a", "b"])),
    larger,
    max_leaves=6,
)
calls = st.recursive(
    leaves,
    lambda inner: larger(inner) | st.builds(ast.Apply, st.just("g"), st.tuples(inner, inner)),
    max_leaves=8,
)


@settings(max_examples=300)
@given(bodies, st.tuples(calls, calls), events)
def test_a_function_of_the_program_means_its_body_over_its_arguments(
    body: ast.Expr, args: tuple[ast.Expr, ast.Expr], event: dict[str, Any]
) -> None:
    function = Function("g", ("a", "b"), body)
    oracle.declared["g"] = function
    namespace = dict(NAMESPACE)
    exec(function_text(function), namespace)  # noqa: S102 - the text under test
    agree(ast.Apply("g", args), event, namespace)


def agree(expr: ast.Expr, event: dict[str, Any], namespace: dict[str, Any]) -> None:
    code = ExpressionWriter().write(expr).text
    try:
        got = eval(f"lambda e, ts: {code}", namespace)(event, 0)  # noqa: S307 - the text under test
    except MISMATCH:
        got = NONE
    try:
        expected = oracle.closure(expr)(event, 0)
    except oracle.NoValue:
        expected = NONE
    assert (got is NONE) == (expected is NONE), code
    assert (
        got is expected or nan(got, expected) or (oracle.same(got, expected) and type(got) is type(expected))
    ), code


def nan(a: Any, b: Any) -> bool:
    return isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
