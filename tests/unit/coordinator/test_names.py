"""Under whose id a key lets somebody register, and who proves to be the worker of an id."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coordinator.security import keys
from coordinator.security.actor import acts
from coordinator.security.door import TOLD_IN_ALL_AT_ONCE, Door
from coordinator.security.proof import Proof
from coordinator.security.throttle import MOST
from coordinator.state.apply import apply
from coordinator.state.commands import MarkWorker, RegisterWorker, RevokeKey
from coordinator.state.names import fault_in_name, fault_in_voice, fault_of_binding
from coordinator.state.records import REST, Event, KeyRole, WorkerStatus
from coordinator.state.results import Joined, Refused
from coordinator.state.snapshot import frames, read
from proto_schemas.errors import WireError
from proto_schemas.messages.commands import Present
from proto_schemas.messages.membership import Capacity, Register
from tests.unit.coordinator.test_api_keys import Book, command, door
from transport.errors import ErrorKind, NatsTransportError

DATA = Path(__file__).parent / "data"


def registers(
    book: Book,
    worker: str,
    key: keys.Key | None,
    incarnation: str | None = "i1",
    at: int = 2_000,
    displaces: int | None = None,
    request_id: str = "",
) -> Any:
    """What the state answers to a registration."""
    return apply(
        book.state,
        RegisterWorker(
            at=at,
            by="t",
            worker_id=worker,
            incarnation=incarnation,
            address="a",
            cpu_cores=1,
            max_pipelines=1,
            key_id=key.id if key is not None else "",
            displaces=displaces,
            request_id=request_id,
        ),
    ).result


def mark(book: Book, worker: str, status: WorkerStatus) -> None:
    session = book.state.workers[worker].session
    apply(
        book.state,
        MarkWorker(at=2_000, by="t", worker_id=worker, session=session, status=status, reason="x"),
    )


# -- what a key is bound to


@pytest.mark.parametrize(
    ("bound_to", "worker", "counts"),
    [
        ("", "w1", True),
        ("w1", "w1", True),
        ("w1", "w10", False),
        ("w1", "W1", False),
        ("edge-*", "edge-7", True),
        ("edge-*", "edge-", True),
        ("edge-*", "edge", False),
        ("edge-*", "x-edge-7", False),
    ],
)
def test_a_bound_key_counts_for_its_worker_and_for_no_other(bound_to: str, worker: str, counts: bool) -> None:
    book = Book()
    key = book.make(KeyRole.WORKER, worker=bound_to)
    answer = registers(book, worker, key)
    assert isinstance(answer, Joined) is counts
    assert (worker in book.state.workers) is counts
    if not counts:
        assert answer.code == "forbidden" and bound_to in answer.error and "--worker" in answer.error


@pytest.mark.parametrize(
    ("pattern", "sound"),
    [
        ("w1", True),
        ("edge-*", True),
        ("*", False),
        ("", False),
        ("a*b", False),
        ("a.b", False),
        ("a>", False),
    ],
)
def test_what_a_key_can_be_bound_to(pattern: str, sound: bool) -> None:
    assert (fault_of_binding(pattern) is None) is sound


def test_a_binding_survives_a_snapshot_and_a_state_of_before_has_none() -> None:
    book = Book()
    key = book.make(KeyRole.WORKER, worker="w1")
    registers(book, "w1", key)
    again = read(b"".join(frames(book.state)))
    assert again.keys[key.id].worker == "w1" and again.workers["w1"].key_id == key.id
    old = read((DATA / "state-before-keys.snapshot").read_bytes())
    assert old.workers and all(worker.key_id == "" for worker in old.workers.values())


# -- an id that is held


def test_a_live_workers_id_is_not_taken_under_another_key_and_its_own_key_restarts_it() -> None:
    book = Book()
    ours, theirs = book.make(KeyRole.WORKER), book.make(KeyRole.WORKER)
    assert isinstance(registers(book, "w1", ours), Joined)
    refused = registers(book, "w1", theirs, "i2")
    assert isinstance(refused, Refused) and refused.code == "forbidden"
    assert ours.id in refused.error and "stop that worker first" in refused.error
    assert book.state.workers["w1"].incarnation == "i1"
    assert isinstance(registers(book, "w1", ours, "i3"), Joined), "a restart"
    assert isinstance(registers(book, "w2", theirs), Joined), "another id is free"


def test_an_id_is_free_again_when_its_worker_is_unhealthy_or_its_key_counts_no_longer() -> None:
    book = Book()
    ours, theirs = book.make(KeyRole.WORKER), book.make(KeyRole.WORKER)
    registers(book, "w1", ours)
    mark(book, "w1", WorkerStatus.UNHEALTHY)
    assert isinstance(registers(book, "w1", theirs, "i2"), Joined)
    assert isinstance(registers(book, "w1", ours, "i3"), Refused), "now it is theirs"
    apply(book.state, RevokeKey(at=2_000, by="t", key_id=theirs.id))
    assert isinstance(registers(book, "w1", ours, "i3"), Joined)
    expiring = book.make(KeyRole.WORKER, expires_at=5_000)
    registers(book, "w3", expiring)
    assert isinstance(registers(book, "w3", ours, at=4_999), Refused)
    assert isinstance(registers(book, "w3", ours, at=5_000), Joined)


def test_a_rotated_key_takes_its_workers_over_while_both_count() -> None:
    book = Book()
    old, new, other = book.make(KeyRole.WORKER), keys.new_key(), book.make(KeyRole.WORKER)
    registers(book, "w1", old)
    apply(book.state, command(new, KeyRole.WORKER, replaces=old.id, overlap_ms=60_000))
    assert fault_in_voice(book.state, "w1", old.id) is None, "it goes on under the old one"
    assert isinstance(registers(book, "w1", other, "i2"), Refused)
    assert isinstance(registers(book, "w1", new, "i2"), Joined)
    assert isinstance(registers(book, "w1", old, "i3"), Refused), "there is no way back"


def test_where_no_keys_are_asked_for_nobody_is_kept_out() -> None:
    book = Book()
    key = book.make(KeyRole.WORKER)
    assert isinstance(registers(book, "w1", None), Joined)
    assert isinstance(registers(book, "w1", key, "i2"), Joined), "keys were turned on since"
    assert isinstance(registers(book, "w1", None, "i3"), Joined), "and off again"


def test_a_heartbeat_comes_under_the_key_that_registered_however_its_worker_is() -> None:
    book = Book()
    ours, theirs = book.make(KeyRole.WORKER), book.make(KeyRole.WORKER)
    registers(book, "w1", ours)
    mark(book, "w1", WorkerStatus.UNHEALTHY)
    assert fault_in_voice(book.state, "w1", ours.id) is None
    said = fault_in_voice(book.state, "w1", theirs.id)
    assert said is not None and ours.id in said and theirs.id in said
    assert fault_in_name(book.state, "w1", theirs.id, 2_000) is None


# -- the door


async def told(book: Book) -> list[Event]:
    for _ in range(5):
        await asyncio.sleep(0)
    return [event for event in book.state.audit if event.what == "worker_refused"]


async def test_an_intruder_is_refused_counted_and_told_of_once_a_minute() -> None:
    book, now = Book(), [0.0]
    ours, theirs = book.make(KeyRole.WORKER), book.make(KeyRole.WORKER)
    registers(book, "w1", ours)
    here = door(book, clock=lambda: now[0])
    acts(theirs.id)
    for _ in range(100):
        with pytest.raises(WireError) as caught:
            here.admit_voice("w1")
        assert caught.value.code == "forbidden" and caught.value.status == 403
        with pytest.raises(WireError, match="stop that worker first"):
            here.admit_name("w1", theirs.id)
    assert here.refused == {"another_worker": 200}
    (event,) = await told(book)
    assert event.about == "w1" and event.by == f"door:{theirs.id}" and ours.id in event.why
    now[0] = 61.0
    with pytest.raises(WireError):
        here.admit_voice("w1")
    assert len(await told(book)) == 2
    acts(ours.id)
    here.admit_voice("w1")


async def test_a_flood_of_ids_fills_neither_the_trail_nor_memory() -> None:
    book = Book()
    key = book.make(KeyRole.WORKER, worker="w1")
    here = door(book)
    for number in range(MOST + 100):
        with pytest.raises(WireError):
            here.admit_name(f"x{number}", key.id)
    assert here.refused["another_worker"] == MOST + 100
    assert len(await told(book)) == TOLD_IN_ALL_AT_ONCE
    assert len(here._told) <= MOST and not here._telling


# -- who listens


class Workers:
    """Who answers `hello`: an incarnation that made one attempt to register, or an error."""

    def __init__(self) -> None:
        self.answer: str | Exception | None = None
        self.made = "mine"
        self.asked: list[str] = []

    async def present(self, worker_id: str, attempt: str | None) -> Present:
        self.asked.append(worker_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Present(ok=True, incarnation=self.answer, registers=attempt == self.made)


def wants(incarnation: str | None, attempt: str | None = "mine", carrier: str | None = None) -> Register:
    capacity = Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=1)
    return Register(
        worker_id="w1",
        address="a",
        api_key="",
        capacity=capacity,
        incarnation=incarnation,
        carrier=carrier,
        attempt=attempt,
    )


def place(status: WorkerStatus | None = WorkerStatus.READY) -> tuple[Proof, Workers, Door]:
    """A cluster that knows incarnation i1 of w1, and its doors."""
    book, workers = Book(), Workers()
    if status is not None:
        registers(book, "w1", None)
        mark(book, "w1", status)
    here = door(book, required=False)
    return Proof(book, workers, here), workers, here


@pytest.mark.parametrize("incarnation", ["i1", "i2"])
async def test_who_answers_on_the_commands_of_an_id_may_register_under_it(incarnation: str) -> None:
    proof, workers, _ = place()
    workers.answer = incarnation
    assert await proof.demand(wants(incarnation), "") == 1
    assert workers.asked == ["w1"]


@pytest.mark.parametrize("pretended", ["i1", "i2", None])
@pytest.mark.parametrize("attempt", ["guessed", None])
@pytest.mark.parametrize("carrier", [None, REST])
async def test_a_registration_that_the_worker_of_that_id_did_not_make_is_refused(
    pretended: str | None, attempt: str | None, carrier: str | None
) -> None:
    """Also under its own incarnation, which many can see: it would change its address and its labels."""
    proof, workers, here = place()
    workers.answer = "i1"
    with pytest.raises(WireError) as caught:
        await proof.demand(wants(pretended, attempt, carrier), "")
    assert caught.value.code == "forbidden" and "i1" in caught.value.error
    assert "--id" in caught.value.error and here.refused == {"another_worker": 1}


@pytest.mark.parametrize("kind", [ErrorKind.NO_RESPONDERS, ErrorKind.TIMEOUT, ErrorKind.BAD_PAYLOAD])
async def test_while_nobody_proves_to_be_a_live_worker_its_id_waits(kind: ErrorKind) -> None:
    proof, workers, _ = place()
    workers.answer = NatsTransportError(kind, "x")
    with pytest.raises(WireError) as caught:
        await proof.demand(wants("i2"), "")
    assert caught.value.code == "unavailable" and caught.value.retryable


async def test_a_worker_of_before_that_does_not_know_the_word_registers_as_ever() -> None:
    proof, workers, _ = place()
    for answer in (WireError("unknown_command", "what?"), None):
        workers.answer = answer
        assert await proof.demand(wants("i2"), "") == 1
    workers.answer = WireError("unavailable", "256 commands are at work")
    with pytest.raises(WireError):
        await proof.demand(wants("i2"), "")


@pytest.mark.parametrize("status", [None, WorkerStatus.UNHEALTHY])
async def test_nobody_is_asked_where_nobody_is_displaced(status: WorkerStatus | None) -> None:
    proof, workers, _ = place(status)
    assert await proof.demand(wants("i2"), "") == 0
    assert workers.asked == []


@pytest.mark.parametrize("status", [WorkerStatus.READY, WorkerStatus.DRAINING])
@pytest.mark.parametrize("incarnation", ["i1", "i2", None])
def test_what_was_proved_of_another_worker_than_the_one_that_holds_the_id_by_then_is_no_proof(
    status: WorkerStatus, incarnation: str | None
) -> None:
    """A coordinator that lags behind may ask nobody, or the one before."""
    book = Book()
    for number in (1, 2):
        registers(book, "w1", None, incarnation=f"i{number}-1")
    mark(book, "w1", status)
    held = book.state.workers["w1"]
    for proved in (0, held.session - 1, held.session + 1):
        refused = registers(book, "w1", None, incarnation=incarnation, displaces=proved)
        assert isinstance(refused, Refused) and refused.retryable and "try again" in refused.error
        assert book.state.workers["w1"] is held
    assert isinstance(registers(book, "w1", None, incarnation=incarnation, displaces=held.session), Joined)


@pytest.mark.parametrize("free", ["unknown", "unhealthy", "without incarnation"])
def test_who_displaces_nobody_has_nothing_to_prove(free: str) -> None:
    book = Book()
    if free != "unknown":
        registers(book, "w1", None, incarnation=None if free == "without incarnation" else "i1")
    if free == "unhealthy":
        mark(book, "w1", WorkerStatus.UNHEALTHY)
    assert isinstance(registers(book, "w1", None, incarnation="i2", displaces=0), Joined)


def test_a_registration_that_is_sent_twice_is_one_though_its_proof_is_told_differently() -> None:
    book = Book()
    first = registers(book, "w1", None, displaces=0, request_id="r")
    assert registers(book, "w1", None, displaces=1, request_id="r") == first and book.state.sessions == 1
