"""API keys: how one looks, how it is made, and how it is checked.

A key is `vk_<id>_<secret>`: the id names it everywhere (state, logs, audit) and is no secret; the secret is
32 random bytes, never chosen by people. What the cluster keeps is BLAKE2b of the secret with a salt for each
key. A slow hash (scrypt) makes guesses dear where people choose secrets; here 2^256 of them would be needed,
and a slow hash would be a gift to whoever sends wrong keys: each would cost the coordinator a tenth of a
second. So a check takes microseconds, needs no cache, and a revocation counts with the command that applies
it.

The comparison takes the same time wherever the difference lies, and an unknown id is compared too.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

from coordinator.state.model import State
from coordinator.state.records import ApiKey, KeyRole

SALT_BYTES: Final = 16
_KEY: Final = re.compile(r"vk_([a-z0-9]{4,32})_([A-Za-z0-9_-]{43,86})")
_NOBODY: Final = ApiKey(id="", role=KeyRole.VIEWER, salt=bytes(SALT_BYTES), digest=bytes(32), created_at=0)


class Key(NamedTuple):
    """A key as its holder has it."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What goes into `x-api-key`."""
        return f"vk_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Key({self.id!r}, ***)"


class Sealed(NamedTuple):
    """What the state keeps of a secret."""

    salt: bytes
    digest: bytes


def new_key() -> Key:
    """A key nobody has."""
    return Key(secrets.token_hex(6), secrets.token_urlsafe(32))


def parse_key(text: str) -> Key | None:
    """The parts of a key; None when it is none."""
    found = _KEY.fullmatch(text)
    return Key(found[1], found[2]) if found is not None else None


def digest(key: Key) -> Sealed:
    """What the state is to keep of a key, with a fresh salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    return Sealed(salt, _digest(key.secret, salt))


def matches(key: Key, known: ApiKey) -> bool:
    """Whether the secret is that of a known key; says nothing about whether that one counts."""
    return hmac.compare_digest(_digest(key.secret, known.salt), known.digest)


def check(state: State, key: Key, at: int) -> ApiKey | None:
    """The record of a key that counts at a time (ms since 1970)."""
    known = state.keys.get(key.id, _NOBODY)
    return known if matches(key, known) and known.counts(at) else None


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), salt=salt, person=b"varpulis api key", digest_size=32).digest()
