"""What leaves a node in a step: answers, calls to the leader, requests; as frames with their subjects.

Nothing is sent here. Answers and calls are collected while the step works and taken when the journal is
synced.
"""

from typing import NamedTuple

from raft import codec
from raft.codec import AnyReply, AnyRequest, CallReply, Frame
from raft.config import RaftConfig
from raft.correspondence import Asked, Correspondence
from raft.outcomes import Committed, Outcome, detail_of, word_of


class Outgoing(NamedTuple):
    """A frame to publish on `subject`. Its reply subject ends in `token`, ``{peer}.{seq}``; no answer
    without.
    """

    subject: str
    data: bytes
    token: str = ""


class Request(NamedTuple):
    """A request to `peer`, published on `rpc`."""

    peer: str
    rpc: str
    frame: AnyRequest
    wants_reply: bool = True


ReplyStamp = tuple[str, int, str, int, int, int, int, int]


class Outbox:
    """The frames of one node that wait for the end of the step."""

    def __init__(self, config: RaftConfig, letters: Correspondence) -> None:
        self._config, self._letters = config, letters
        self._answers: list[Outgoing] = []
        self._calls: list[Outgoing] = []
        self.answers_calls = False
        """Whether a call of another node is answered in this step."""

    def frame(self, request: Request) -> Outgoing:
        """A request as it goes out."""
        token = f"{request.peer}.{request.frame.seq}" if request.wants_reply else ""
        return Outgoing(self._config.subject(request.peer, request.rpc), codec.encode(request.frame), token)

    def call(self, peer: str, rpc: str, frame: AnyRequest, about: object = None) -> None:
        """Ask `peer` something at the end of this step; its answer will count."""
        self._letters.expect_reply(frame.seq, Asked(peer, frame.term, about))
        self._calls.append(self.frame(Request(peer, rpc, frame)))

    def stamp(self, request: Frame, term: int) -> ReplyStamp:
        """The common fields of an answer to `request`."""
        return (*self._letters.stamp(term), request.incarnation, request.seq)

    def answer(self, reply_to: str, frame: AnyReply) -> None:
        """Answer on the subject `reply_to`; a request without one wants none."""
        if reply_to:
            self._answers.append(Outgoing(reply_to, codec.encode(frame)))

    def answer_call(self, reply_to: str, request: Frame, term: int, outcome: Outcome) -> None:
        """Answer a command or barrier that was handed over."""
        self.answers_calls = True
        at = outcome if isinstance(outcome, Committed) else Committed(0, 0, b"")
        self.answer(
            reply_to,
            CallReply(
                *self.stamp(request, term),
                word_of(outcome),
                at.index,
                at.term,
                at.result,
                detail_of(outcome),
            ),
        )

    def take_answers(self) -> list[Outgoing]:
        """The answers that have been collected since the last call."""
        answers, self._answers, self.answers_calls = self._answers, [], False
        return answers

    def take(self) -> list[Outgoing]:
        """What has been collected since the last call."""
        taken = self._answers + self._calls
        self._answers, self._calls, self.answers_calls = [], [], False
        return taken

    def clear(self) -> None:
        """Drop what was collected: the node has withdrawn."""
        self._answers, self._calls, self.answers_calls = [], [], False
