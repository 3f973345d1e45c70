"""How a proposal or a barrier ends, and the same on the wire.

`Committed` or one of the call errors. `OUTCOMES` maps each to the word that travels in `CallReply`, so a
follower's caller gets the very error the leader's caller would.
"""

from collections.abc import Callable

import msgspec

from raft.errors import ApplyFailed, CommandTooLarge, NotLeader, OutcomeUnknown, RaftError, Unavailable


class Committed(msgspec.Struct, frozen=True, gc=False):
    """The command stands at `index`, proposed in `term`; `result` is what the state machine answered."""

    index: int
    term: int
    result: bytes


Outcome = Committed | RaftError
Done = Callable[[Outcome], None]

COMMITTED = "committed"
_WORDS: dict[type[RaftError], str] = {
    NotLeader: "not_leader",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    CommandTooLarge: "too_large",
    ApplyFailed: "apply_failed",
}


def word_of(outcome: Outcome) -> str:
    """The word for an outcome."""
    return COMMITTED if isinstance(outcome, Committed) else _WORDS.get(type(outcome), "unknown")


def detail_of(outcome: Outcome) -> str:
    """What the other side needs to build the same error again."""
    match outcome:
        case NotLeader(leader=leader):
            return leader or ""
        case Unavailable(cause=cause) | OutcomeUnknown(cause=cause) | ApplyFailed(cause=cause):
            return cause[:1_000]
        case CommandTooLarge(size=size, limit=limit):
            return f"{size} {limit}"
        case _:
            return ""


def outcome_from(word: str, detail: str, index: int, term: int, result: bytes) -> Outcome:
    """The outcome a reply tells; an unknown word says nothing about the command, so neither does the
    outcome.
    """
    match word:
        case "committed":
            return Committed(index, term, result)
        case "not_leader":
            return NotLeader(detail or None)
        case "unavailable":
            return Unavailable(detail)
        case "apply_failed":
            return ApplyFailed(detail)
        case "too_large" if len(numbers := detail.split()) == 2 and all(n.isdigit() for n in numbers):
            return CommandTooLarge(int(numbers[0]), int(numbers[1]))
        case _:
            return OutcomeUnknown(detail or f"the leader answered {word!r}")
