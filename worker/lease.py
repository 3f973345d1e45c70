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
- A deploy may have waited in that socket, too, while its pipeline went elsewhere. So a copy has a `Permit`:
  where its deploy may be older than the lease, outputs wait until the leader was told that the copy runs and
  left it alone. How old a deploy is at most tells the heartbeat that its sender had heard.
- When the connection to NATS is lost the gate closes at once, like that of a lease that ended: the leader may
  find that nobody listens to our commands, and not wait for the rest of the lease. Where heartbeats go out
  for `UNANSWERED_LEASES` leases after that and nobody answers, there is no leader, and the gate opens again.

The trade-off: heartbeats that go out keep the gate open even when nobody answers them. So a cluster whose
coordinators are all down keeps its pipelines running, and a worker cut off from the coordinators but not
from its NATS server runs on beside its replacement until they meet again; the epoch fence then ends it.
Requiring an answer would turn the loss of the control plane into the loss of all data.
"""

import math
from typing import Final

UNANSWERED_LEASES: Final = 2.0


class Lease:
    """The gate in front of a worker's outputs. All times are seconds of one monotonic clock.

    `judged_at`: the copies that heartbeats listed until then are those that the leader lets run here.
    """

    __slots__ = ("_cut_at", "_last_cut", "_last_out", "_secs", "_shut", "judged_at")

    def __init__(self) -> None:
        self._secs = 0.0
        self._last_out = 0.0
        self._shut = False
        self._cut_at: float | None = None
        self._last_cut = -math.inf
        self.judged_at = -math.inf

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
        self._last_cut = now
        if self.granted:
            self._cut_at = now

    def acknowledged(self, sent_at: float, secs: float, now: float, judged_at: float | None = None) -> None:
        """The leader answered, at `now`, the heartbeat sent at `sent_at`, and granted `secs`; what it said of
        the copies here is about the heartbeat sent at `judged_at`, None: about the same one."""
        if secs <= 0:
            self._secs, self._shut, self._cut_at = 0.0, False, None
            return
        if now - sent_at > secs or (self._cut_at is not None and sent_at < self._cut_at):
            return
        self._secs = secs
        self._last_out = max(self._last_out, sent_at)
        self._shut, self._cut_at = False, None
        self.judged_at = max(self.judged_at, sent_at if judged_at is None else judged_at)

    def covers(self, heard_at: float | None, now: float) -> bool:
        """Whether a command still holds whose sender had heard the heartbeat sent at `heard_at` (None: who
        knows which): the leader cannot have found this worker dead since then."""
        if not self.granted:
            return True
        return heard_at is not None and heard_at > self._last_cut and now - heard_at <= self._secs

    def is_open(self, now: float) -> bool:
        """Outputs may leave at `now`."""
        if self._secs <= 0:
            return True
        return not self._shut and self._cut_at is None and now - self._last_out <= self._secs


class Permit:
    """The gate in front of one copy's outputs: the lease, and that the copy is wanted. `heard_at` as in
    `Lease.covers`, of the command that made it."""

    __slots__ = ("_heard_at", "_lease", "_listed_at", "_sure")

    def __init__(self, lease: Lease, heard_at: float | None = None) -> None:
        self._lease = lease
        self._heard_at = heard_at
        self._listed_at = math.inf
        self._sure = False

    def listed(self, now: float) -> None:
        """Heartbeats sent from `now` on list the copy."""
        self._sure = self._lease.covers(self._heard_at, now)
        self._listed_at = now

    def is_sure(self, now: float) -> bool:
        """Nobody can run it elsewhere instead, unless he was told that it runs here."""
        if self._listed_at == math.inf:
            return self._lease.covers(self._heard_at, now)
        self._sure = self._sure or not self._lease.granted or self._lease.judged_at >= self._listed_at
        return self._sure

    def is_open(self, now: float) -> bool:
        """Outputs may leave at `now`."""
        return (self._sure or self.is_sure(now)) and self._lease.is_open(now)
