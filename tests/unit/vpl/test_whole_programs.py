"""Whole programs at random: the generated code puts out what their definition says (`program_oracle`),
also when a snapshot is taken and restored on the way."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from proto_schemas.partition import Owners
from tests.unit.vpl import program_oracle
from tests.unit.vpl.program_makers import EVENTS, streams, text
from tests.unit.vpl.program_oracle import Stream
from tests.unit.vpl.stream_oracle import Event
from tests.unit.vpl.test_stages import alike
from vpl import Engine, VplError, compile_source
from vpl.division import Undivided, joined, part


def compiled(made: list[Stream]) -> Any:
    try:
        return compile_source(text(made))
    except VplError as error:
        raise AssertionError(f"{error}\n{text(made)}") from None


def taken(engine: Engine) -> list[tuple[str, dict[str, Any], int]]:
    return [(name, fields, ts) for _, name, fields, ts in engine.take()]


@settings(max_examples=400)
@given(streams(), EVENTS)
def test_a_program_puts_out_what_its_definition_says(made: list[Stream], events: list[Event]) -> None:
    engine = compiled(made).start()
    for one in events:
        engine.process(*one)
    found, wanted = taken(engine), program_oracle.outputs(made, events)
    event(f"{min(len(wanted), 20) // 4 * 4} outputs or more")
    assert [name for name, _, _ in found] == [name for name, _, _ in wanted], text(made)
    alike([(fields, ts) for _, fields, ts in found], [(fields, ts) for _, fields, ts in wanted])


STEPS = st.lists(st.integers(0, 400), max_size=6)


@settings(max_examples=200)
@given(streams(), EVENTS, STEPS, st.data())
def test_a_program_restored_at_any_event_goes_on_as_if_nothing_had_happened(
    made: list[Stream], events: list[Event], times: list[int], data: st.DataObject
) -> None:
    program = compiled(made)
    script: list[Event | int] = [*events]
    for time in sorted(times):
        script.insert(data.draw(st.integers(0, len(script))), time)
    whole, first, second = program.start(), program.start(), program.start()
    _feed(whole, script)
    cut = data.draw(st.integers(0, len(script)))
    _feed(first, script[:cut])
    second.restore(msgspec.json.decode(msgspec.json.encode(first.snapshot())))
    assert second.next_deadline() == first.next_deadline()
    _feed(second, script[cut:])
    assert repr(taken(first) + taken(second)) == repr(taken(whole)), text(made)
    assert second.counters == whole.counters
    assert second.snapshot() == whole.snapshot()


def _feed(engine: Engine, script: list[Event | int]) -> None:
    for step in script:
        if isinstance(step, int):
            engine.advance(step)
        else:
            engine.process(*step)


def owned_by(number: int, count: int) -> Callable[[Any], bool]:
    """Whether an instance owns a key."""
    owners = Owners(count)
    return lambda value: owners.of(value) == number


@settings(max_examples=100, suppress_health_check=[HealthCheck.filter_too_much])
@given(streams(by_key=True), EVENTS, st.integers(0, 30), st.integers(1, 3), st.integers(1, 4))
def test_instances_by_key_put_out_what_one_would_also_when_they_become_more_or_fewer(
    made: list[Stream], events: list[Event], change: int, before: int, after: int
) -> None:
    """What a key's events come to is the same; the order among keys is nobody's promise."""
    program = compiled(made)
    try:
        where = program.divided_by("k")
    except Undivided:
        assume(False)
    one, instances = program.start(), [program.start() for _ in range(before)]
    found = []
    for position, (name, fields, ts) in enumerate(events):
        if position == change:
            found += [output for each in instances for output in taken(each)]
            states = [each.snapshot()["state"] for each in instances]
            instances = [program.start() for _ in range(after)]
            for number, engine in enumerate(instances):
                owned = owned_by(number, after)
                mine = joined(part(state, where, owned) for state in states)
                engine.restore({**engine.snapshot(), "state": mine})
        one.process(name, fields, ts)
        instances[Owners(len(instances)).of(fields.get("k"))].process(name, fields, ts)
    found += [output for each in instances for output in taken(each)]
    wanted = taken(one)
    event(
        f"{'stateful' if program.stateful else 'stateless'}, {min(len(wanted), 20) // 4 * 4} outputs or more"
    )
    assert sorted(map(repr, found)) == sorted(map(repr, wanted)), text(made)
