"""Who acts: the key under which the present request came in, for the trail of decisions.

Set by the door for the task of one request, read where a command is proposed; so no handler has to hand it
on, and none can forget to.
"""

from contextvars import ContextVar
from typing import Final

_acting: Final[ContextVar[str]] = ContextVar("acting", default="")


def acts(key_id: str) -> None:
    """The rest of this task acts under a key; empty: under none."""
    _acting.set(key_id)


def acting() -> str:
    """The key under which this task acts; empty: under none."""
    return _acting.get()


def signed(by: str) -> str:
    """`by`, with the key under which it is done: `api` becomes `api:<key id>`."""
    key_id = _acting.get()
    return f"{by}:{key_id}" if key_id and by == "api" else by
