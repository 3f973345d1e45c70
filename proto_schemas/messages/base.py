"""What all messages between coordinators and workers have in common.

Fields without a default are the seed's and required; fields with a default are ours, left out of the JSON
when not set, and never required of a peer. Field order is the order on the wire, so encoding is byte-stable.
"""

from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


Fields = dict[str, Any]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every message: immutable; what is not set is not sent; unknown fields are ignored."""


class Fence(Message, frozen=True, kw_only=True):
    """What our commands carry beside their seed fields.

    `term` and `epoch`: a worker refuses a command older than one it has seen (`stale_epoch`).
    `request_id`: a request seen before gets the first answer again.
    """

    term: int | None = None
    epoch: int | None = None
    request_id: str | None = None
