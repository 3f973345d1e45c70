"""What there is to know of a class of stage beside its plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vpl.keeper import Keeper
from vpl.writing import StreamWriter


def _never(stage: Any) -> bool:
    return False


def _nothing(stage: Any) -> str:
    return "None"


@dataclass(frozen=True, slots=True)
class Kind:
    """How stages of one class are written and kept.

    `write(writer, stage)` writes its code. With a state: `operation` is its name in a checkpoint (letters
    only), `keep(stage, fresh, limit)` makes its keeper, which holds at most `limit` entries; `fresh` is the
    value of the Python expression that `fresh(stage)` gives (a function that makes an empty window, for
    example). `timed`: whether its keeper has deadlines, so that its code has a function `close<tag>`.
    `by_input`: it comes first in a stream over several types and writes an entry for each
    (`StreamWriter.entry`).
    """

    write: Callable[[StreamWriter, Any], None]
    operation: str = ""
    keep: Callable[[Any, Any, int], Keeper] | None = None
    fresh: Callable[[Any], str] = _nothing
    timed: Callable[[Any], bool] = _never
    by_input: bool = False
