"""The cluster key: a file that all processes of a cluster share, and what is derived from it.

Theory. The file holds one key a line, `<key id> <base64url of 32 bytes>`; `#` begins a comment. The first key
signs and seals; every key is accepted. So a rotation never stops anything: add the new key as the second line
everywhere, then make it the first everywhere, then remove the old one (docs/security.md). The file is looked
at again once a second and taken over when it changed; one that cannot be read then changes nothing and is
told of once.

No key is used for two purposes: each use has one of its own, derived with keyed BLAKE2b and a name
(`purpose`). What travels names its key by `tag`, four bytes that tell nothing about the key itself.

No `repr` and no text of an error here holds a key.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from transport.errors import ConfigError

KEY_BYTES: Final = 32
TAG_BYTES: Final = 4
MAX_KEYS: Final = 8
MAX_FILE: Final = 64 * 1024
LOOK_EVERY: Final = 1.0
"""Seconds between looks at the file."""
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")

log = logging.getLogger(__name__)


class ClusterKey:
    """One key of the ring.

    Attributes:
        id: its name in the file; may be shown.
        tag: four bytes that stand for it in what travels.
    """

    __slots__ = ("_secret", "id", "tag")

    def __init__(self, key_id: str, secret: bytes) -> None:
        self.id = key_id
        self._secret = secret
        self.tag = self.derive("tag")[:TAG_BYTES]

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
        return hashlib.blake2b(
            purpose.encode(), key=self._secret, digest_size=KEY_BYTES, person=b"varpulis"
        ).digest()

    def __repr__(self) -> str:
        return f"ClusterKey({self.id!r}, ***)"


class KeyRing:
    """The keys of one file, the first of which signs.

    Args:
        path: of the file; None for keys that are given as text (tests, programs).
        text: the content, instead of a file's.

    Raises:
        ConfigError: the file cannot be read, or is no key file.
    """

    def __init__(self, path: Path | None = None, *, text: str | None = None) -> None:
        self._path = path
        self._where = str(path) if path is not None else "the cluster key"
        self._seen = _mark(path)
        self._keys = _parse(_read(path) if text is None else text, self._where)
        self._watchers: list[Callable[[], None]] = []

    @property
    def signing(self) -> ClusterKey:
        """What is signed or sealed now is signed or sealed with this key."""
        return self._keys[0]

    @property
    def keys(self) -> tuple[ClusterKey, ...]:
        """Every key that is accepted."""
        return self._keys

    def by_id(self, key_id: str) -> ClusterKey | None:
        """The accepted key of that name."""
        return next((key for key in self._keys if key.id == key_id), None)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher()` after the keys have changed."""
        self._watchers.append(watcher)

    async def follow(self) -> None:
        """Take the file over whenever it changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.refresh()

    def refresh(self) -> bool:
        """Take over a file that changed; returns whether there are other keys now.

        A file that cannot be read leaves the keys as they are: half a rotation must not stop a cluster.
        """
        mark = _mark(self._path)
        if mark is None or mark == self._seen:
            return False
        self._seen = mark
        try:
            keys = _parse(_read(self._path), self._where)
        except ConfigError as error:
            log.error("%s; the keys of before go on", error)
            return False
        if [(key.id, key.tag) for key in keys] == [(key.id, key.tag) for key in self._keys]:
            return False
        self._keys = keys
        log.info(
            "%s: key %s signs now, accepted are %s", self._where, keys[0].id, ", ".join(k.id for k in keys)
        )
        for watcher in self._watchers:
            watcher()
        return True

    def __repr__(self) -> str:
        return f"KeyRing({self._where!r}, {[key.id for key in self._keys]})"


def new_key(key_id: str) -> str:
    """The line of a fresh key."""
    if not _KEY_ID.fullmatch(key_id):
        raise ConfigError(f"key id {key_id[:40]!r}: use 1 to 32 letters, digits, '_' or '-'")
    return f"{key_id} {base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip('=')}\n"


def read_secret(path: Path, what: str) -> str:
    """The text of a file that holds a secret, without the white space around it.

    Raises:
        ConfigError: it cannot be read, or is not small. Never with a word of its content.
    """
    text = _read(path, what).strip()
    if not text:
        raise ConfigError(f"{what} {path} is empty: write the secret into it")
    return text


def write_secret(path: Path, text: str) -> None:
    """Make a file that only its owner can read; it must not be there yet.

    Raises:
        FileExistsError: it is.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path | None, what: str = "cluster_key_file") -> str:
    if path is None:
        raise ConfigError(f"{what} is missing: name a file")
    try:
        with path.expanduser().open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                log.warning("%s %s can be read by every user of this machine: chmod 600", what, path)
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ConfigError(f"{what} {path} has more than {MAX_FILE} bytes: that is no key file")
        return data.decode("ascii")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        cause = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        raise ConfigError(f"{what} {path} cannot be read: {cause}: name a readable file") from None


def _parse(text: str, where: str) -> tuple[ClusterKey, ...]:
    keys: list[ClusterKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        wrong = f"{where}: line {number} is no key: write `<key id> <base64url of {KEY_BYTES} bytes>`"
        if len(words) != 2 or not _KEY_ID.fullmatch(words[0]):
            raise ConfigError(f"{wrong}; `varpulis key new FILE --cluster` makes one")
        try:
            secret = base64.b64decode(words[1] + "=" * (-len(words[1]) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(wrong) from None
        if len(secret) != KEY_BYTES:
            raise ConfigError(wrong)
        keys.append(ClusterKey(words[0], secret))
    if not 1 <= len(keys) <= MAX_KEYS:
        raise ConfigError(f"{where} holds {len(keys)} keys: give 1 to {MAX_KEYS}")
    if len({key.id for key in keys}) < len(keys) or len({key.tag for key in keys}) < len(keys):
        raise ConfigError(f"{where}: a key is there twice: give each an id and a value of its own")
    return tuple(keys)


def _mark(path: Path | None) -> tuple[int, int, int, int] | None:
    """What changes when the file does; None while it is away (it is just being replaced)."""
    if path is None:
        return None
    try:
        found = path.expanduser().stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
