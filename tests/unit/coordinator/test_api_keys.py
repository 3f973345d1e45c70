"""API keys: what the state keeps of them, how they change, who comes in through the door."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from coordinator.machine import ClusterMachine
from coordinator.security import keys, roles
from coordinator.security.actor import signed
from coordinator.security.door import FAILURES_AT_ONCE, Door
from coordinator.state.apply import apply
from coordinator.state.commands import Command, CreateKey, RevokeKey, decode_command, encode_command
from coordinator.state.limits import MAX_KEYS
from coordinator.state.model import State
from coordinator.state.records import ApiKey, KeyRole
from coordinator.state.results import AnyResult, Refused
from coordinator.state.snapshot import frames, read
from proto_schemas.errors import ErrorCode, WireError

GROUPS, REGISTER = ("GET", "/pipeline-groups"), ("POST", "/workers/register")
BEAT = ("POST", "/workers/{}/heartbeat")


def command(key: keys.Key, role: KeyRole = KeyRole.ADMIN, **more: Any) -> CreateKey:
    sealed = keys.digest(key)
    given = {
        "at": 1_000,
        "by": "t",
        "key_id": key.id,
        "role": role,
        "salt": sealed.salt,
        "digest": sealed.digest,
    }
    return CreateKey(**{**given, **more})


class Book:
    """A state, and a log that may bring news."""

    def __init__(self) -> None:
        self.state = State()
        self.news: list[CreateKey] = []
        self.barriers = 0
        self.outage: WireError | None = None

    async def barrier(self, *, timeout: float) -> None:
        self.barriers += 1
        await asyncio.sleep(0)
        if self.outage is not None:
            raise self.outage
        for item in self.news:
            apply(self.state, item)

    async def propose(self, command: Command) -> AnyResult:
        await asyncio.sleep(0)
        return apply(self.state, decode_command(encode_command(command))).result

    def make(self, role: KeyRole = KeyRole.ADMIN, **more: Any) -> keys.Key:
        key = keys.new_key()
        apply(self.state, command(key, role, **more))
        return key


def door(book: Book, **more: Any) -> Door:
    return Door(book, **{"required": True, "clock": lambda: 0.0, "now_ms": lambda: 2_000, **more})


async def refusal(entered: Any) -> WireError:
    with pytest.raises(WireError) as caught:
        await entered
    return caught.value


# -- keys


def test_a_key_is_random_and_found_again_in_its_text() -> None:
    one, two = keys.new_key(), keys.new_key()
    assert one != two and keys.parse_key(one.text) == one
    assert re.fullmatch(r"vk_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", one.text)
    assert one.secret not in repr(one)


@pytest.mark.parametrize(
    "text", ["", "x", "vk_", "vk_abcd_short", "vk_ABCD_" + "a" * 43, "vk_abcd_" + "ä" * 43]
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert keys.parse_key(text) is None


def test_the_state_holds_no_secret_nor_does_its_snapshot_or_a_command() -> None:
    book = Book()
    key = keys.new_key()
    made = command(key)
    apply(book.state, made)
    kept = b"".join(frames(book.state)) + encode_command(made)
    assert key.secret.encode() not in kept
    assert key.secret not in f"{made!r} {book.state!r} {book.state.keys!r}"


def test_equal_secrets_have_different_digests() -> None:
    key = keys.new_key()
    assert keys.digest(key) != keys.digest(key)


def test_only_the_right_secret_of_a_key_that_counts_is_let_through() -> None:
    book = Book()
    key = book.make(expires_at=5_000)
    assert keys.check(book.state, key, 4_999) is not None
    assert keys.check(book.state, key, 5_000) is None
    assert keys.check(book.state, keys.Key(key.id, keys.new_key().secret), 2_000) is None
    assert keys.check(book.state, keys.new_key(), 2_000) is None


# -- the state


def test_keys_survive_a_snapshot_and_one_of_an_older_version_has_none() -> None:
    book = Book()
    key = book.make(KeyRole.VIEWER)
    data = b"".join(frames(book.state))
    assert keys.check(read(data), key, 2_000) is not None
    machine = ClusterMachine()
    machine.restore(data)
    assert machine.state.keys == book.state.keys
    old = (Path(__file__).parent / "data" / "state-before-keys.snapshot").read_bytes()
    assert read(old).keys == {} and read(old).workers


def test_rotation_leaves_the_old_key_until_its_overlap_is_over() -> None:
    book = Book()
    old, new = book.make(), keys.new_key()
    apply(book.state, command(new, at=10_000, replaces=old.id, overlap_ms=500))
    assert keys.check(book.state, old, 10_499) is not None
    assert keys.check(book.state, old, 10_500) is None
    assert keys.check(book.state, new, 10_500) is not None
    assert book.state.keys[old.id].replaced_by == new.id


def test_an_overlap_does_not_prolong_a_key() -> None:
    book = Book()
    old, new = book.make(expires_at=10_100), keys.new_key()
    apply(book.state, command(new, at=10_000, replaces=old.id, overlap_ms=500))
    assert book.state.keys[old.id].expires_at == 10_100


def test_a_revoked_key_is_not_replaced_and_not_brought_back_by_a_file() -> None:
    book = Book()
    other, key = book.make(), book.make()
    apply(book.state, RevokeKey(at=3_000, by="t", key_id=key.id))
    assert isinstance(apply(book.state, command(keys.new_key(), replaces=key.id)).result, Refused)
    assert not isinstance(apply(book.state, command(key, from_file=True)).result, Refused)
    assert keys.check(book.state, key, 4_000) is None
    assert keys.check(book.state, other, 4_000) is not None
    assert isinstance(apply(book.state, command(key)).result, Refused), "an id is used once"


def test_the_last_admin_key_goes_only_by_force() -> None:
    book = Book()
    admin, operator = book.make(), book.make(KeyRole.OPERATOR)
    book.make(expires_at=9_000_000)
    revoke = RevokeKey(at=3_000, by="t", key_id=admin.id)
    refused = apply(book.state, revoke).result
    assert isinstance(refused, Refused) and "last admin key" in refused.error and "force" in refused.error
    assert not isinstance(apply(book.state, RevokeKey(at=3_000, by="t", key_id=operator.id)).result, Refused)
    assert not isinstance(
        apply(book.state, RevokeKey(at=3_000, by="t", key_id=admin.id, force=True)).result, Refused
    )
    assert keys.check(book.state, admin, 3_001) is None


def test_the_number_of_keys_is_bounded_and_a_revoked_one_makes_room() -> None:
    book = Book()
    first = book.make()
    record = book.state.keys[first.id]
    for number in range(MAX_KEYS - 1):
        book.state.keys[str(number)] = ApiKey(
            id=str(number), role=record.role, salt=b"", digest=b"", created_at=1
        )
    full = apply(book.state, command(keys.new_key())).result
    assert isinstance(full, Refused) and full.code == "quota_exceeded"
    apply(book.state, RevokeKey(at=3_000, by="t", key_id="7"))
    assert not isinstance(apply(book.state, command(keys.new_key())).result, Refused)
    assert "7" not in book.state.keys and len(book.state.keys) == MAX_KEYS


# -- the door


async def test_without_a_key_nobody_comes_in_and_is_told_how() -> None:
    error = await refusal(door(Book()).admit(GROUPS, None, "a"))
    assert error.code == "unauthorized" and error.status == 401
    assert "x-api-key" in error.error and "--api-key-file" in error.error


async def test_where_no_keys_are_asked_for_everybody_is_an_admin_whatever_is_sent() -> None:
    assert (
        await door(Book(), required=False).admit(("DELETE", "/workers/{}"), "nonsense", "a") is KeyRole.ADMIN
    )


@pytest.mark.parametrize("role", list(KeyRole))
async def test_a_role_may_what_the_table_says(role: KeyRole) -> None:
    book = Book()
    key = book.make(role)
    for route, needed in roles.ROLES.items():
        order = [KeyRole.VIEWER, KeyRole.OPERATOR, KeyRole.ADMIN]
        if role is KeyRole.WORKER:
            allowed = route in {REGISTER, BEAT}
        else:
            allowed = order.index(role) >= order.index(needed)
        entered = door(book).admit(route, key.text, "a")
        if allowed:
            assert await entered is role
        else:
            error = await refusal(entered)
            assert error.status == 403 and needed.value in error.error and key.id in error.error
            assert key.secret not in error.error


async def test_a_route_that_nobody_listed_takes_an_admin() -> None:
    book = Book()
    operator, admin = book.make(KeyRole.OPERATOR), book.make()
    assert (await refusal(door(book).admit(("GET", "/new"), operator.text, "a"))).code == "forbidden"
    assert await door(book).admit(("GET", "/new"), admin.text, "a") is KeyRole.ADMIN


async def test_a_key_that_was_just_made_elsewhere_is_waited_for_once_for_all() -> None:
    book = Book()
    key = keys.new_key()
    book.news.append(command(key, KeyRole.VIEWER))
    here = door(book)
    entered = await asyncio.gather(*(here.admit(GROUPS, key.text, "a") for _ in range(20)))
    assert entered == [KeyRole.VIEWER] * 20
    assert book.barriers == 1


async def test_no_key_is_called_wrong_where_nobody_knows() -> None:
    """A node that has just been started, or has no leader, would refuse the keys that count."""
    book = Book()
    key = keys.new_key()
    book.outage = WireError(ErrorCode.UNAVAILABLE, "no leader")
    here = door(book)
    refused = await refusal(here.admit(GROUPS, key.text, "a"))
    assert (refused.code, refused.status, here.refused) == ("unavailable", 503, {"no_news": 1})
    for _ in range(int(FAILURES_AT_ONCE)):
        refused = await refusal(here.admit(GROUPS, keys.new_key().text, "a"))
    assert refused.code == "rate_limited", "the bound on what one address may cost holds then, too"
    book.outage = None
    book.news.append(command(key, KeyRole.VIEWER))
    assert await here.admit(GROUPS, key.text, "b") is KeyRole.VIEWER
    assert (await refusal(here.admit(GROUPS, keys.new_key().text, "b"))).code == "unauthorized"


async def test_failed_attempts_are_bounded_by_address_and_cost_a_good_key_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book, now = Book(), [0.0]
    good = book.make()
    here = door(book, clock=lambda: now[0])
    wrong = [keys.new_key() for _ in range(int(FAILURES_AT_ONCE) + 10)]
    codes = [(await refusal(here.admit(GROUPS, key.text, "bad"))).code for key in wrong]
    assert codes == ["unauthorized"] * int(FAILURES_AT_ONCE) + ["rate_limited"] * 10
    assert book.barriers <= FAILURES_AT_ONCE, "beyond the bound nobody makes the log work"
    last = await refusal(here.admit(GROUPS, wrong[0].text, "bad"))
    assert last.status == 429 and last.retry_after == pytest.approx(1.0)
    assert await here.admit(GROUPS, good.text, "bad") is KeyRole.ADMIN
    assert (await refusal(here.admit(GROUPS, wrong[0].text, "other"))).code == "unauthorized"
    now[0] = 2.0
    assert (await refusal(here.admit(GROUPS, wrong[0].text, "bad"))).code == "unauthorized"
    assert len(caplog.records) <= 6, "told at powers of two"
    assert not any(key.secret in caplog.text for key in wrong)


async def test_a_key_of_its_own_rate_gets_429_with_the_time_to_wait_and_heartbeats_pass() -> None:
    book, now = Book(), [0.0]
    key, other = book.make(KeyRole.OPERATOR), book.make(KeyRole.OPERATOR)
    here = door(book, rate=4.0, burst=2.0, clock=lambda: now[0])
    for _ in range(2):
        await here.admit(GROUPS, key.text, "a")
    error = await refusal(here.admit(GROUPS, key.text, "a"))
    assert error.code == "rate_limited" and error.retry_after == 0.25 and error.retryable
    for _ in range(50):
        await here.admit(BEAT, key.text, "a")
    await here.admit(GROUPS, other.text, "a")
    now[0] = 0.25
    await here.admit(GROUPS, key.text, "a")


async def test_a_registration_over_nats_takes_a_key_of_a_worker() -> None:
    book = Book()
    worker, viewer = book.make(KeyRole.WORKER), book.make(KeyRole.VIEWER)
    here = door(book)
    await here.admit_worker(worker.text)
    assert (await refusal(here.admit_worker(viewer.text))).code == "forbidden"
    for sent in ("", "x", keys.Key(worker.id, viewer.secret).text):
        error = await refusal(here.admit_worker(sent))
        assert error.code == "unauthorized" and viewer.secret not in error.error


async def test_decisions_are_signed_with_the_key_that_came_in() -> None:
    book = Book()
    key = book.make()
    await door(book).admit(GROUPS, key.text, "a")
    assert signed("api") == f"api:{key.id}"
    assert signed("liveness") == "liveness"
    await door(book, required=False).admit(GROUPS, None, "a")
    assert signed("api") == "api"
