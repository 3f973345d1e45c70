"""The keys that a coordinator is started with: one of an admin, one for workers.

Whoever can write the files of a coordinator rules the cluster anyway, so a key file is the way in when there
is no key yet, or no admin key left. Its key enters the state once, as a digest; all coordinators may have the
same file, and the first one makes it so. One that was revoked stays revoked. A file whose key has the id of
another key is an error that is told of, and changes nothing.
"""

import logging
from pathlib import Path
from typing import Final

from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.security import keys
from coordinator.state.commands import CreateKey
from coordinator.state.records import KeyRole
from transport.errors import ConfigError
from transport.keyring import read_secret

_log = logging.getLogger(__name__)
_NAMES: Final = {KeyRole.ADMIN: "admin_key_file", KeyRole.WORKER: "worker_key_file"}


def read_key(path: Path, what: str) -> keys.Key:
    """The key in a file.

    Raises:
        ConfigError: there is none; never with a word of what is there.
    """
    key = keys.parse_key(read_secret(path, what))
    if key is None:
        raise ConfigError(f"{what} {path} holds no API key: make one with `varpulis key new {path}`")
    return key


class KeyFiles:
    """What the files of one coordinator hold, until it is in the state.

    Raises:
        ConfigError: as `read_key`.
    """

    def __init__(self, files: dict[KeyRole, Path | None]) -> None:
        self._missing = {
            role: read_key(path, _NAMES[role]) for role, path in files.items() if path is not None
        }

    async def ensure(self, ledger: Ledger) -> None:
        """Have the keys in the state; call it again until it has returned once without an error.

        Raises:
            WireError: not now.
        """
        for role, key in list(self._missing.items()):
            if key.id not in ledger.state.keys:
                sealed = keys.digest(key)
                await ledger.propose(
                    CreateKey(
                        by="key_file",
                        key_id=key.id,
                        role=role,
                        salt=sealed.salt,
                        digest=sealed.digest,
                        note=_NAMES[role],
                        from_file=True,
                    )
                )
            known = ledger.state.keys.get(key.id)
            if known is None:
                continue  # not applied here yet
            del self._missing[role]
            if not keys.matches(key, known) or known.role is not role:
                cause = "the cluster knows another key of that id: make a new one with `varpulis key new`"
                _log.error("%s", line("key_file_ignored", file=_NAMES[role], key=key.id, reason=cause))
            elif known.revoked_at:
                cause = "it was revoked: make a new one with `varpulis key new`"
                _log.error("%s", line("key_file_ignored", file=_NAMES[role], key=key.id, reason=cause))
