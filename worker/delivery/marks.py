"""Marks: what a copy notes beside its outputs, by which the next one knows which of them are stored.

A mark lies on the progress subject of its pipeline, which one copy at a time may write to: each mark expects
the sequence of the one before, so whoever has not written the last one is refused by the stream. It is stored
together with outputs, or not at all, and says

- `done`: the last of those outputs: they are numbered (input sequence, closings after it, number);
- `closings`: the closings by the timer that the copy has decided since the mark before: after which input,
  and at which time. They are an input like the others: with them the next copy's windows close where this
  one's did, and come out the same.

A mark with no outputs is a *claim*: from then on no other copy can store anything.
"""

from typing import Final, NamedTuple

import msgspec

MAX_CLOSINGS: Final = 100
"""Closings a copy may have decided and not noted yet."""


class Done(NamedTuple):
    """Outputs up to this one are stored: the sequence of an input, how often the timer closed something after
    it, and how many outputs of that."""

    sequence: int = 0
    closings: int = 0
    outputs: int = 0

    @property
    def step(self) -> tuple[int, int]:
        """What the outputs came of."""
        return self.sequence, self.closings


class Closing(NamedTuple):
    """The timer closed what was due at `at` (ms) after the input `after`, for the `number`-th time."""

    after: int
    number: int
    at: int

    @property
    def step(self) -> tuple[int, int]:
        """As `Done` has it."""
        return self.after, self.number


class Mark(msgspec.Struct, frozen=True):
    """See the module. `copy` and `epoch`: whose; `number`: of this copy's marks."""

    copy: str
    epoch: int
    number: int
    done: Done
    closings: list[Closing]


class Unreadable(Exception):
    """Something lies on the progress subject that is no mark: nobody else may write there."""


def encode(mark: Mark) -> bytes:
    return msgspec.json.encode(mark)


def decode(data: bytes) -> Mark:
    """Raises `Unreadable`."""
    try:
        return msgspec.json.decode(data, type=Mark)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"a mark cannot be read: {error}") from None
