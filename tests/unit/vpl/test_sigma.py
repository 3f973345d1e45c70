"""Rules of Sigma, as its backend for VPL writes them, are programs: they detect what the rule says, or what
is not part of the language is refused by name."""

from typing import Any

import pytest
from sigma.backends.varpulis.varpulis import VarpulisBackend
from sigma.collection import SigmaCollection

from vpl import check_source, compile_source

HEAD = (
    "title: {title}\nid: 11111111-2222-3333-4444-{number:012d}\n"
    "logsource: {{product: {product}, category: {category}}}"
)
Event = tuple[str, dict[str, Any], int]


def rule(
    detection: str,
    *,
    name: str = "",
    number: int = 1,
    product: str = "windows",
    category: str = "process_creation",
    title: str = "A rule",
) -> str:
    head = HEAD.format(title=title, number=number, product=product, category=category)
    named = f"name: {name}\n" if name else ""
    return f"{named}{head}\nlevel: high\ndetection:\n{detection}\n"


def program(*rules: str, **options: Any) -> str:
    backend: Any = VarpulisBackend(**options)
    source: str = backend.convert(SigmaCollection.from_yaml("\n---\n".join(rules)))
    return source


def detected(source: str, events: list[Event]) -> list[dict[str, Any]]:
    remarks = [str(remark) for remark in check_source(source) if remark.severity == "error"]
    assert not remarks, f"{remarks}\n{source}"
    engine = compile_source(source).start()
    for event in events:
        engine.process(*event)
    engine.advance(10**12)
    return [fields for _, _, fields, _ in engine.take()]


def selection(*lines: str, condition: str = "selection") -> str:
    return "\n".join(["  selection:", *(f"    {line}" for line in lines), f"  condition: {condition}"])


CREATED = "SysmonProcessCreate"
SIMPLE: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "a text, in either case",
        selection(r"Image: C:\Windows\CMD.exe"),
        {"Image": r"c:\windows\cmd.EXE"},
        {"Image": "cmd"},
    ),
    ("a cased text", selection("Image|cased: CMD"), {"Image": "CMD"}, {"Image": "cmd"}),
    ("a text with a quote", selection('User: "O\'Brien"'), {"User": "o'brien"}, {"User": "obrien"}),
    (
        "contains",
        selection("CommandLine|contains: mimi"),
        {"CommandLine": "x MIMIKATZ"},
        {"CommandLine": "x"},
    ),
    (
        "starts and ends",
        selection(r"Image|endswith: \a.exe", r"Image|startswith: 'C:'"),
        {"Image": r"c:\x\A.EXE"},
        {"Image": r"d:\x\a.exe"},
    ),
    (
        "all of several",
        selection("CommandLine|contains|all: [one, two]"),
        {"CommandLine": "Two One"},
        {"CommandLine": "one"},
    ),
    ("one of several", selection("User: [ann, bob]"), {"User": "Bob"}, {"User": "eve"}),
    (
        "wildcards inside",
        selection("CommandLine: 'net * /add ?'"),
        {"CommandLine": "NET user\nx /add y"},
        {"CommandLine": "net /add"},
    ),
    (
        "a regular expression",
        selection(r"CommandLine|re: '-e(nc)? [A-Za-z0-9+/=]{4,}'"),
        {"CommandLine": "p -enc QUJD"},
        {"CommandLine": "p -x"},
    ),
    (
        "a regular expression in either case",
        selection("CommandLine|re|i: '^power'"),
        {"CommandLine": "PowerShell"},
        {"CommandLine": "a power"},
    ),
    ("a number", selection("LogonType: 3"), {"LogonType": 3}, {"LogonType": 4}),
    ("comparisons", selection("Size|gt: 10", "Size|lte: 20"), {"Size": 20}, {"Size": 10}),
    ("a field that is not there", selection("User: null"), {}, {"User": "x"}),
    ("a field that is there", selection("User|exists: true"), {"User": 1}, {}),
    (
        "two fields that are equal",
        selection("User|fieldref: Target"),
        {"User": "a", "Target": "a"},
        {"User": "a", "Target": "b"},
    ),
    (
        "not",
        selection("Image: a") + " and not filter\n  filter:\n    User: root",
        {"Image": "A", "User": "x"},
        {"Image": "a", "User": "ROOT"},
    ),
    (
        "a nested field",
        selection("Event.User.Name: ann"),
        {"Event": {"User": {"Name": "Ann"}}},
        {"Event": {}},
    ),
    ("a field with dashes", selection("cs-method: get"), {"cs-method": "GET"}, {"cs-method": "PUT"}),
]


@pytest.mark.parametrize(
    ("detection", "fits", "other"), [case[1:] for case in SIMPLE], ids=[case[0] for case in SIMPLE]
)
def test_a_rule_detects_what_it_says(detection: str, fits: dict[str, Any], other: dict[str, Any]) -> None:
    found = detected(program(rule(detection)), [(CREATED, other, 1), (CREATED, fits, 2)])
    assert len(found) == 1
    assert found[0]["rule"] == "A rule" and found[0]["level"] == "high"


def test_a_rule_over_several_types_takes_them_all() -> None:
    source = program(rule(selection("TargetObject: x"), category="registry_event"))
    events: list[Event] = [
        ("SysmonRegistryAddDel", {"TargetObject": "X"}, 1),
        ("Sysmon14", {"TargetObject": "x"}, 2),
    ]
    assert len(detected(source, events)) == 2


def test_a_keyword_is_looked_for_in_the_field_that_holds_the_line() -> None:
    source = program(rule("  keywords:\n    - segfault\n  condition: keywords"), keyword_field="message")
    assert (
        len(
            detected(
                source, [(CREATED, {"message": "a SEGFAULT at 0"}, 1), (CREATED, {"message": "fine"}, 2)]
            )
        )
        == 1
    )


A = rule(selection("Image: a"), name="rule_a", number=1, title="First")
B = rule(selection("Image: b"), name="rule_b", number=2, title="Second")
C = rule(selection("Image: c"), name="rule_c", number=3, title="Third")
D = rule(selection("Image: d"), name="rule_d", number=4, title="Fourth")


def correlation(kind: str, rules: str, condition: str = "", group: str = "[User]") -> str:
    text = f"title: Together\ncorrelation:\n  type: {kind}\n  rules: {rules}\n"
    text += f"  group-by: {group}\n  timespan: 5m\n"
    return text + (f"  condition: {condition}\n" if condition else "")


def images(*pairs: str) -> list[Event]:
    """Events like `a:ann`: an image and a user, a second apart."""
    return [
        (CREATED, {"Image": pair.partition(":")[0], "User": pair.partition(":")[2]}, 1000 * at)
        for at, pair in enumerate(pairs)
    ]


def together(source: str, events: list[Event]) -> list[dict[str, Any]]:
    return [fields for fields in detected(source, events) if fields["rule"] == "Together"]


def test_an_ordered_correlation_is_a_sequence() -> None:
    source = program(A, B, correlation("temporal_ordered", "[rule_a, rule_b]"))
    found = together(source, images("b:ann", "a:ann", "b:bob", "b:ann"))
    assert [fields["User"] for fields in found] == ["ann"]


def test_an_unordered_correlation_of_three_is_a_sequence_in_each_order() -> None:
    source = program(A, B, C, correlation("temporal", "[rule_a, rule_b, rule_c]"))
    assert len(together(source, images("c:ann", "a:ann", "a:bob", "b:ann"))) == 1
    assert not together(source, images("c:ann", "a:ann", "b:bob"))


def test_an_unordered_correlation_of_four_counts_rules_in_a_window() -> None:
    source = program(A, B, C, D, correlation("temporal", "[rule_a, rule_b, rule_c, rule_d]"))
    assert len(together(source, images("d:ann", "c:ann", "a:ann", "b:ann"))) == 1
    assert not together(source, images("d:ann", "c:ann", "a:ann", "a:ann"))


def test_a_count_of_events_is_a_window() -> None:
    source = program(A, correlation("event_count", "[rule_a]", "{gte: 3}"))
    assert [f["count"] for f in together(source, images("a:ann", "a:bob", "a:ann", "a:ann"))] == [3]


def test_a_count_of_values_is_a_window() -> None:
    source = program(A, correlation("value_count", "[rule_a]", "{gte: 2, field: User}", "[Image]"))
    assert [f["count"] for f in together(source, images("a:ann", "a:bob", "a:ann"))] == [2]


def test_a_correlation_of_a_correlation_is_a_stream_over_a_stream() -> None:
    inner = "name: many\n" + correlation("event_count", "[rule_a]", "{gte: 2}").replace("Together", "Many")
    source = program(A, B, inner, correlation("temporal_ordered", "[many, rule_b]"))
    engine_events = images("a:ann", "a:ann")
    engine_events += [
        (CREATED, {"Image": "a", "User": "ann"}, 301_000),
        (CREATED, {"Image": "b", "User": "ann"}, 302_000),
    ]
    assert len(together(source, engine_events)) == 1


@pytest.mark.parametrize(
    ("pattern", "says"),
    [(r"re|m: '^x'", "flags inside"), (r"re: '\bx\b'", "b")],
    ids=["lines", "word boundary"],
)
def test_what_the_language_does_not_have_is_refused_by_name(pattern: str, says: str) -> None:
    remarks = check_source(program(rule(selection(f"CommandLine|{pattern}"))))
    assert any(
        remark.severity == "error" and "the pattern is not taken" in remark.message for remark in remarks
    )
    assert any(says in remark.message for remark in remarks)
