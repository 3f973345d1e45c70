"""Which part of a copy's state a checkpoint holds. Pure; times are seconds of a monotonic clock.

A state is known by its progress: how many events it has seen, and how often a timer has closed windows.
Whoever looks finds either the progress that the last checkpoint holds, and then all is safe up to now, or
another, and then what came after the last such look is not.
"""

from dataclasses import dataclass

Progress = tuple[int, int]
"""Events taken, and looks at the timer that closed something."""


@dataclass(slots=True)
class Safety:
    """`saved_at`: until when all was safe; `saved`: the progress that was, None: what was given from outside.
    `size`: bytes of that checkpoint. `due`: when the next checkpoint is, once that is known. `fenced`:
    a newer copy owns the checkpoints now."""

    saved_at: float
    saved: Progress | None = (0, 0)
    size: int = 0
    due: float | None = None
    fenced: bool = False

    def keep(self, progress: Progress, at: float) -> None:
        """A checkpoint holds the state with that progress, as it was at `at`."""
        self.saved, self.saved_at = progress, at

    def look(self, progress: Progress, now: float) -> bool:
        """Whether there is state that no checkpoint holds."""
        if progress == self.saved:
            self.saved_at = now
            return False
        return True
