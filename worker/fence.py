"""A worker refuses yesterday's commands. Pure.

Two numbers order commands: the *term* of the leader that sent one, and the *epoch* of a placement, which
grows with every intent for a (group, name). A command whose term is older than the newest seen, or whose
epoch is older than the newest seen for its pipeline, comes from a deposed leader, or was held up on the
way, and would undo what came after it. A command without them (a coordinator that knows none) passes
always.

Epochs are remembered for the `CAPACITY` pipelines seen last; one that is forgotten accepts any epoch again.
"""

from typing import Final

from proto_schemas.errors import ErrorCode, WireError

CAPACITY: Final = 10_000


class EpochFence:
    """The newest term, and the newest epoch of each pipeline."""

    def __init__(self) -> None:
        self.term = 0
        self._epochs: dict[tuple[str, str], int] = {}

    def check(self, term: int | None, epoch: int | None, pipeline: tuple[str, str] | None) -> None:
        """Let a command pass, and remember what it carries.

        Raises:
            WireError: `stale_epoch`, naming what came and what was seen; nothing is remembered then.
        """
        if term is not None and term < self.term:
            raise _stale("term", term, self.term)
        if epoch is not None and pipeline is not None:
            newest = self._epochs.pop(pipeline, 0)
            self._epochs[pipeline] = max(epoch, newest)
            if epoch < newest:
                raise _stale("epoch", epoch, newest)
            if len(self._epochs) > CAPACITY:
                del self._epochs[next(iter(self._epochs))]
        if term is not None:
            self.term = term

    def check_copy(self, term: int | None, epoch: int | None, own: int) -> None:
        """Let a command for one copy pass, whose epoch is `own`; raises as `check`."""
        if epoch is not None and epoch < own:
            raise _stale("epoch", epoch, own)
        self.check(term, None, None)


def _stale(what: str, came: int, seen: int) -> WireError:
    return WireError(
        ErrorCode.STALE_EPOCH,
        f"{what} {came} is older than {what} {seen}, which this worker has seen: "
        "read the state again before you send",
    )
