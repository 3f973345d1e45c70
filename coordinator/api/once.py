"""The first answer to a request that changes something beside the replicated state.

What a command of the state answers is remembered with it. Leadership and members are Raft's own, so here the
answer is noted in the state when it is known, and before that the choice that was left to us: whoever asks
again, through whichever node, gets the answer, or has the same thing done. Only a request with an
`Idempotency-Key` is noted.
"""

import contextlib
import zlib
from collections.abc import Callable

import msgspec
from litestar import Response

from coordinator.api.context import AnyRequest, Context, client_key, whole_body
from coordinator.state.commands import Note
from coordinator.state.results import Noted
from proto_schemas.errors import ErrorCode, WireError


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: str


class Kept:
    """One request: `choice` as it was made first, `answer` when there was one."""

    def __init__(self, context: Context, key: str | None, asked: str, choice: str) -> None:
        self._context = context
        self._key = key
        self._asked = asked
        self.choice = choice
        self.answer: Response[bytes] | None = None

    @property
    def request_id(self) -> str:
        """Of the answer's note."""
        return f"end:{self._key}"

    async def end(self, status: int, body: bytes) -> Response[bytes]:
        """Note the answer; the first one that was noted is given. Without a leader it is given unnoted."""
        answer = _Answer(status, body.decode())
        if self._key is not None:
            text = msgspec.json.encode(answer).decode()
            with contextlib.suppress(WireError):
                noted = await self._context.ledger.propose(
                    Note(by="api", request_id=self.request_id, asked=self._asked, text=text)
                )
                answer = _read(noted.text) if isinstance(noted, Noted) else answer
        return _response(answer)


async def begin(request: AnyRequest, context: Context, choose: Callable[[], str]) -> Kept:
    """Find the answer, or the choice, of the first such request.

    Raises:
        WireError: `conflict`, the key is that of another request; or nothing can be noted now.
    """
    key = client_key(request)
    if key is None:
        return Kept(context, None, "", "")
    words = zlib.crc32(await whole_body(request))
    asked = f"{request.method} {request.url.path} {words:08x}"
    choice = choose()
    first = await context.ledger.propose(Note(by="api", request_id=f"key:{key}", asked=asked, text=choice))
    kept = Kept(context, key, asked, first.text if isinstance(first, Noted) else choice)
    ended = context.ledger.state.remembered.get(kept.request_id)
    if ended is not None and isinstance(ended.result, Noted):
        if ended.about != f"Note {asked}":
            raise WireError(ErrorCode.CONFLICT, "this Idempotency-Key is of another request: use a new one")
        kept.answer = _response(_read(ended.result.text))
    return kept


def _read(text: str) -> _Answer:
    return msgspec.json.decode(text, type=_Answer)


def _response(answer: _Answer) -> Response[bytes]:
    return Response(answer.body.encode(), status_code=answer.status, media_type="application/json")
