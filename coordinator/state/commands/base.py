"""What every command has."""

from typing import Annotated, Final

import msgspec

MAX_REASON: Final = 2_000
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do", tag=str.lower):
    """Base of the commands. `at` is 0 until the proposer stamps it; `format` is higher than 1 in a command
    that an earlier release would read as something else, or not at all."""

    format: int = 1
    at: int = 0
    by: str
    request_id: str = ""

    @property
    def about(self) -> str:
        """What the command is about, for logs and to tell two requests with one id apart."""
        return ""

    @property
    def words(self) -> "Command":
        """The command without what may differ between two sends of one request."""
        return self
