"""What `apply` answers, and what of it is remembered under a request id."""

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag=str.lower, gc=False):
    """Base of what `apply` answers."""


class Done(Result, frozen=True, kw_only=True):
    """It is so now."""


class Joined(Result, frozen=True, kw_only=True):
    """The worker is a member, in this session."""

    session: int


class Placed(Result, frozen=True, kw_only=True):
    """The intent stands: deploy under this epoch."""

    epoch: int


class Restored(Result, frozen=True, kw_only=True):
    """The state is that of the copy; `kept` of its `pipelines` go on where they run."""

    groups: int
    pipelines: int
    kept: int


class Noted(Result, frozen=True, kw_only=True):
    """What was noted first under this request id."""

    text: str


class Started(Result, frozen=True, kw_only=True):
    """The job is under way."""

    id: str


class Refused(Result, frozen=True, kw_only=True):
    """Nothing was changed; `code` is one of the wire's."""

    code: str
    error: str
    retryable: bool = False


AnyResult = Done | Joined | Placed | Restored | Noted | Started | Refused


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first answer to a request id, what that request was about, and the CRC-32 of its words."""

    about: str
    result: AnyResult
    words: int = 0
