"""May outputs leave this worker now? Pure: monotonic seconds come in, a yes or no comes out.

The leader places a silent worker's pipelines elsewhere after its heartbeat timeout; the lease it grants is
shorter. A worker that was cut off or frozen must therefore fall silent by itself before the second copy
speaks:

- No acknowledgement ever, or a lease of 0: the rule is off (a coordinator that knows no leases).
- A heartbeat *went out* when the NATS server confirmed it; its time is that of its sending, not of the
  confirmation.
- The gate closes as soon as the last heartbeat that went out is older than the lease. Outputs are checked
  against the clock, not against a timer, so a process thawed after SIGSTOP is shut before its first output.
- Once closed it stays closed, although heartbeats go out again, until one sent since then is acknowledged.
  The acknowledgement of a heartbeat older than the lease (it waited in the socket of a frozen process)
  opens nothing.
- When the connection to NATS is lost the gate closes at once, like that of a lease that ended: the leader may
  find that nobody listens to our commands, and not wait for the rest of the lease. Where heartbeats go out
  for `UNANSWERED_LEASES` leases after that and nobody answers, there is no leader, and the gate opens again.

The trade-off: heartbeats that go out keep the gate open even when nobody answers them. So a cluster whose
coordinators are all down keeps its pipelines running, and a worker cut off from the coordinators but not
from its NATS server runs on beside its replacement until they meet again; the epoch fence then ends it.
Requiring an answer would turn the loss of the control plane into the loss of all data.
"""

from typing import Final

UNANSWERED_LEASES: Final = 2.0


class Lease:
    """The gate in front of a worker's outputs. All times are seconds of one monotonic clock."""

    __slots__ = ("_cut_at", "_last_out", "_secs", "_shut")

    def __init__(self) -> None:
        self._secs = 0.0
        self._last_out = 0.0
        self._shut = False
        self._cut_at: float | None = None

    @property
    def granted(self) -> bool:
        """A coordinator granted a lease, so the rule is on."""
        return self._secs > 0

    @property
    def secs(self) -> float:
        """Length of the lease in seconds; 0 when there is none."""
        return self._secs

    def went_out(self, sent_at: float) -> None:
        """A heartbeat sent at `sent_at` reached the NATS server."""
        if self.granted and sent_at - self._last_out > self._secs:
            self._shut = True
        if self._cut_at is not None and sent_at - self._cut_at > UNANSWERED_LEASES * self._secs:
            self._cut_at = None
        self._last_out = max(self._last_out, sent_at)

    def cut_off(self, now: float) -> None:
        """The connection to NATS was lost at `now`."""
        if self.granted:
            self._cut_at = now

    def acknowledged(self, sent_at: float, secs: float, now: float) -> None:
        """The leader answered, at `now`, the heartbeat sent at `sent_at`, and granted `secs`."""
        if secs <= 0:
            self._secs, self._shut, self._cut_at = 0.0, False, None
            return
        if now - sent_at > secs or (self._cut_at is not None and sent_at < self._cut_at):
            return
        self._secs = secs
        self._last_out = max(self._last_out, sent_at)
        self._shut, self._cut_at = False, None

    def is_open(self, now: float) -> bool:
        """Outputs may leave at `now`."""
        if self._secs <= 0:
            return True
        return not self._shut and self._cut_at is None and now - self._last_out <= self._secs
