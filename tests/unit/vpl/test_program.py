"""What a compiled program tells its host, and what it keeps to itself."""

import pickle

import pytest

from vpl import SinkBinding, SourceBinding, VplError, compile_source

SOURCE = """
connector Bus = nats(servers: ["nats://a:1", "nats://b:2"], password: "hunter2", nkey_seed: "SUABC",
    token: "t0k", backup: "nats://admin:pw99@c:3", routing_key: "shown")
connector Out = file(path: "/tmp/x")
const TOPIC = "in.>"
var seen = 3
stream Doors = Door.from(Bus, topic: TOPIC, js: true)
stream Again = Door.from(Bus, topic: TOPIC, js: true).print()
stream Held  = Doors.where(x > 1).emit().to(Bus, topic: "out", auth_token: "t0k").to(Out, format: "flat")
stream Cars  = Car.select(a: b)
"""


def test_bindings_types_and_hash_are_told() -> None:
    program = compile_source(SOURCE)
    assert program.sources == (SourceBinding("Bus", "Door", {"topic": "in.>", "js": True}),)
    assert program.consumes == {"Door", "Car"}
    assert program.emits == {"Held"}
    held = [binding for binding in program.sinks if binding.stream == "Held"]
    assert held == [
        SinkBinding("Bus", "Held", {"topic": "out", "auth_token": "t0k"}, "to"),
        SinkBinding("Out", "Held", {"format": "flat"}, "to"),
    ]
    assert program.connectors["Bus"].params["servers"] == ["nats://a:1", "nats://b:2"]
    assert len(program.source_sha256) == 64
    assert program.start().snapshot()["vars"] == {"seen": 3}


def test_the_sink_id_is_the_index_of_the_binding() -> None:
    program = compile_source(SOURCE)
    engine = program.start()
    engine.process("Door", {"x": 2}, 1)
    for sink, event_type, _, _ in engine.take():
        assert sink == -1 or program.sinks[sink].stream == event_type


def test_secrets_are_in_no_repr() -> None:
    program = compile_source(SOURCE)
    for text in (repr(program), repr([program.connectors, program.sinks]), str([program.connectors["Bus"]])):
        assert "hunter2" not in text
        assert "SUABC" not in text
        assert "t0k" not in text
        assert "pw99" not in text
        assert "routing_key: 'shown'" in text
        assert "nats://a:1" in text


def test_engines_of_one_program_share_nothing() -> None:
    program = compile_source("stream S = T.window(2).aggregate(n: count()).emit()")
    one, other = program.start(), program.start()
    one.process("T", {}, 0)
    other.process("T", {}, 0)
    assert one.take() == other.take() == []
    assert one.counters["events_in"] == 1


@pytest.mark.parametrize(
    "name", ["class", "None", "out", "windows", "process", "MISMATCH", "start", "e", "ts", "lambda", "x_y"]
)
def test_any_name_is_safe_for_streams_types_and_fields(name: str) -> None:
    source = f"""stream {name} = {name}1.partition_by({name}).window(1)
        .aggregate({name}: last({name})).emit({name}: {name})
    stream Next = {name}.where({name} == 5).emit({name}: {name})"""
    engine = compile_source(source).start()
    engine.process(f"{name}1", {name: 5}, 0)
    assert [fields for _, _, fields, _ in engine.take()] == [{name: 5}, {name: 5}]


def test_similar_stream_names_do_not_mix() -> None:
    names = ["A", "A_", "_A", "A2A", "start_A", "parts1_A", "open2_A"]
    windows = ".window(1).aggregate(n: count()).window(1).aggregate(v: count())"
    engine = compile_source("".join(f"stream {name} = T{windows}.emit()\n" for name in names)).start()
    engine.process("T", {}, 0)
    assert [event_type for _, event_type, _, _ in engine.take()] == names


def test_text_of_a_program_never_becomes_code() -> None:
    nasty = "'; __import__('os') #\\\\ \" }} {0} \\n"
    literal = '"' + nasty.replace("\\", "\\\\").replace('"', '\\"') + '"'
    source = f"""const C = {literal}
    stream S = T.where(x != {literal}).emit(v: C, w: {{{literal}: 1}}, l: x in [{literal}])"""
    engine = compile_source(source).start()
    engine.process("T", {"x": 1}, 0)
    [(_, _, fields, _)] = engine.take()
    assert fields == {"v": nasty, "w": {nasty: 1}, "l": False}


def test_generated_code_has_no_builtins() -> None:
    program = compile_source("stream S = T.emit()")
    pipeline = program._made["pipeline"]
    assert pipeline.__globals__["__builtins__"] == {}


def test_an_error_survives_pickling() -> None:
    with pytest.raises(VplError) as caught:
        compile_source("stream S = T.emt()")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_no_event_makes_process_raise() -> None:
    source = """stream S = T.where(a > 1 or a is null).partition_by(k, l).window(1)
        .aggregate(n: sum(a * b), s: stddev(a), m: max(b), c: collect(a + b))
        .emit(n: n, m: to_string(m), r: round(s, 3)).print(n).log(message: m)
    stream R = T.emit(x: a ** b, y: a << b, z: a[b], w: a.b.c, v: replace(a, b, a), u: regex_match(a, b),
        q: a + b)"""
    engine = compile_source(source).start()
    deep: list[object] = []
    for _ in range(3000):
        deep = [deep]
    odd = [
        None,
        True,
        0,
        -1,
        10**5000,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x" * 9000,
        "(",
        [],
        deep,
        {},
        {"b": {"c": 1}},
    ]
    for a in odd:
        for b in odd:
            engine.process("T", {"a": a, "b": b, "k": a, "l": b}, 0)
    assert engine.counters["events_in"] == len(odd) ** 2
    assert len(engine.take()) > len(odd) ** 2
