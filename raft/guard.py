"""What happens when the engine or the disk fails: the node withdraws, and stays alive to say why."""

import logging
from typing import Protocol

log = logging.getLogger("raft")


class Withdrawing(Protocol):
    """What can withdraw."""

    def withdraw(self, cause: str) -> None: ...
    def engine_failure(self) -> Exception | None: ...


class Guard:
    """What runs inside touches the engine or the disk; when it fails, the node withdraws."""

    __slots__ = ("_core",)

    def __init__(self, core: Withdrawing) -> None:
        self._core = core

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None and (error := self._core.engine_failure()) is None:
            return False
        if not isinstance(error, Exception):
            return False
        cause = (
            f"this node has withdrawn: {type(error).__name__}: {error}. Mend the cause (disk space, disk, "
            "state machine), then start it again"
        )
        log.critical("%s", cause, exc_info=None if isinstance(error, OSError) else error)
        self._core.withdraw(cause)
        return True
