"""What a running pipeline remembers between events, whatever kind of stage remembers it.

A stage with a state (a window, a join, a sequence, `.distinct`, a timer) has a *keeper*. The generated code
works on it event by event; the engine knows it only by the methods below, and so all keepers are equal: each
is saved and restored, has deadlines, is weighed, and counts what it lost. To add a kind of state, derive from
`Keeper` and name it in the `Kind` of its stage (`vpl.stages`); nothing in the engine changes.

Names. A stage's `operation` is its name in a checkpoint (`window`; the second of a stream `window2`), its
`tag` what the Python names of the generated code end in. The code finds its keeper as `keepers[tag]`; a
keeper with deadlines needs a function `close<tag>` there, which is called with each tuple that `expire`
yields.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

MAX_KEYS = 1_000_000

LOSSES = (
    "window_evicted",
    "late",
    "join_evicted",
    "distinct_evicted",
    "run_evicted",
)
"""What keepers count, by the names of the engine's counters; each is there, 0, in every engine."""


class Keeper(ABC):
    """The state of one stage. `lost` is how many of `loss` it gave up since it was made or restored."""

    loss: ClassVar[str] = "window_evicted"

    def __init__(self) -> None:
        self.lost: dict[str, int] = {}

    def lose(self, count: int = 1, loss: str | None = None) -> None:
        """Count what is given up; `loss` is one of `LOSSES`, by default that of the class."""
        name = loss or self.loss
        self.lost[name] = self.lost.get(name, 0) + count

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """Plain, JSON-able data that later events do not change; times in it are absolute."""

    @abstractmethod
    def load(self, data: Any) -> Any:
        """What `replace` takes, from what `save` gave; changes nothing yet.

        The data of another shape of stage (a program that was changed, and restored by force) give the empty
        state, and so does None, when the checkpoint knows nothing of this stage.

        Raises:
            ValueError: it is not what `save` gives; the text says what is wrong.
        """

    @abstractmethod
    def replace(self, loaded: Any) -> None:
        """Continue with this state. (Containers stay the same objects: generated code holds them.)"""

    @abstractmethod
    def weigh(self, limit: int) -> int:
        """About how many values it holds; it may stop counting beyond `limit`."""

    def next_due(self) -> int | None:
        """When `expire` has something to do (ms, the host's clock); None when nothing waits for a time."""
        return None

    def expire(self, now: int) -> Iterable[tuple[Any, ...]]:
        """Take out what is due at `now`, earliest first: the arguments of its `close` for each."""
        return ()


@dataclass(frozen=True, slots=True)
class KeeperPlan:
    """The stage of a stream that has a state; `number` counts its kind in the stream, from 1."""

    stream: str
    kind: str
    number: int
    stage: Any

    @property
    def operation(self) -> str:
        """Its name in a checkpoint."""
        return f"{self.kind}{self.number if self.number > 1 else ''}"

    @property
    def tag(self) -> str:
        """What its Python names end in; unique, because no kind has a digit or `_` in its name."""
        return f"_{self.operation}_{self.stream}"
