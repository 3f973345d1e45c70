"""Which request a later action goes back to, so that both stand in one trace.

A request commits what it wants and is answered; what that leads to, controllers do later, as tasks of their
own. So the leader remembers for a while under which span something was asked for about a group; who acts for
that group acts in a span of that trace. In memory, of `MOST` groups, for `SECONDS`: what is done
later, or after a change of leader, begins a trace of its own. Without tracing nothing is remembered.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from transport import tracing

if TYPE_CHECKING:
    from opentelemetry.context import Context

MOST: Final = 1_024
SECONDS: Final = 60.0
_acting: ContextVar[bool] = ContextVar("acting", default=False)


class Causes:
    """`about` is what commands and events say they are about: a group, or `group/pipeline`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, tuple[float, Context]] = OrderedDict()

    def note(self, about: str) -> None:
        """The request in whose span we are wants something of it."""
        if not tracing.enabled() or _acting.get():
            return
        context = tracing.current()
        if context is None:
            return
        group = about.partition("/")[0]
        self._of[group] = self._clock() + SECONDS, context
        self._of.move_to_end(group)
        if len(self._of) > MOST:
            self._of.popitem(last=False)

    def of(self, about: str) -> "Context | None":
        """The span under which something was asked for; None: nobody did, lately."""
        until, context = self._of.get(about.partition("/")[0], (0.0, None))
        return context if until > self._clock() else None

    def acting(self, name: str, about: str) -> AbstractContextManager[Any]:
        """A span for the time of the block, in the trace of the request that led to it."""
        return self._acting(name, about) if tracing.enabled() else tracing.span(name)

    @contextmanager
    def _acting(self, name: str, about: str) -> Iterator[None]:
        token = _acting.set(True)
        try:
            inside = tracing.trace_id()
            parent = None if inside else self.of(about)
            with tracing.span(name, parent=parent, about=about):
                yield
        finally:
            _acting.reset(token)
