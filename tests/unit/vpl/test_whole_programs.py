"""Whole programs at random: the generated code puts out what their definition says (`program_oracle`),
also when a snapshot is taken and restored on the way."""

from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.unit.vpl import program_oracle
from tests.unit.vpl.program_makers import EVENTS, streams, text
from tests.unit.vpl.program_oracle import Stream
from tests.unit.vpl.stream_oracle import Event
from tests.unit.vpl.test_stages import alike
from vpl import Engine, VplError, compile_source


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
