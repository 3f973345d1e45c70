"""Two lists and a witness become one list: nothing lost, nothing doubled, in the witness's order."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proto_schemas.messages.moves import HeldEvent
from transport.subscription import Message
from worker.held import Held, Witness


def event(name: str) -> HeldEvent:
    return HeldEvent(subject="s", at=0, data=name.encode())


def names(events: list[HeldEvent]) -> list[str]:
    return [each.data.decode() for each in events]


def witness_of(stream: list[str]) -> Witness:
    witness = Witness()
    for name in stream:
        witness.see(Message("s", name.encode()))
    return witness


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 30))
def test_what_two_copies_held_comes_out_as_it_was_sent(stream: list[tuple[str, bool]], begin: int) -> None:
    """Also where events have the same bytes, and where the witness came late."""
    shares = [(name, to_old or at < begin) for at, (name, to_old) in enumerate(stream)]
    old = [event(name) for name, to_old in shares if to_old]
    new = [event(name) for name, to_old in shares if not to_old]
    witness = witness_of([name for name, _ in stream[begin:]])
    assert names(witness.in_order(old, new)) == [name for name, _ in stream]


@given(st.lists(st.integers(0, 3), max_size=20), st.lists(st.integers(0, 3), max_size=20))
def test_nothing_is_lost_whatever_the_witness_saw(held: list[int], seen: list[int]) -> None:
    old, new = [event(str(each)) for each in held[::2]], [event(str(each)) for each in held[1::2]]
    merged = witness_of([str(each) for each in seen]).in_order(old, new)
    assert sorted(names(merged)) == sorted(names(old + new))


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=20), st.integers(0, 20))
def test_each_share_of_those_that_hear_several_lines_is_in_its_order(
    stream: list[list[bool]], begin: int
) -> None:
    """Every event comes in each line, to either copy, while the witness sees it once."""
    held: dict[bool, list[HeldEvent]] = {True: [], False: []}
    for at, lines in enumerate(stream):
        for share, to_old in enumerate(lines):
            held[to_old or at < begin].append(replace(event(str(at)), share=share))
    witness = witness_of([str(at) for at in range(begin, len(stream))])
    merged = witness.in_order(held[True], held[False])
    for share in range(3):
        of_share = [each for each in merged if each.share == share]
        assert names(of_share) == [str(at) for at in range(len(stream))]


def test_an_event_that_came_before_the_move_as_well_stands_where_it_came_last() -> None:
    witness = witness_of(["x", "a", "b", "x"])
    assert names(witness.in_order([event("a"), event("x")], [event("b")])) == ["a", "b", "x"]


def test_a_copy_and_what_it_saw_disagree_while_an_event_is_on_its_way_round_another_server() -> None:
    witness = witness_of(["a", "b"])
    witness.joined()
    for name in ("c", "d", "e"):
        witness.see(Message("s", name.encode()))
    old, new = [event("c")], [event("d")]
    assert not witness.disagrees(old, new, until=4), "a and b came before; e is not asked for"
    assert witness.disagrees(old, new, until=5), "e is held by neither"
    assert witness.disagrees(old, [event("d"), event("f")], until=4), "f was held before it was seen"
    witness.see(Message("s", b"f"))
    assert not witness.disagrees(old, [event("d"), event("f"), event("e")], until=5)


def test_what_is_taken_out_makes_room() -> None:
    held = Held()
    held.replace([event("a"), event("b")])
    assert held.next() == event("a") and len(held) == 1 and held.overflow == 0
