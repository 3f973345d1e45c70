"""Clocks: how far those of the coordinators and workers are from ours, with the bounds of what is known.

Nothing that is decided depends on them (leases are of the monotonic clock); but what is signed counts for a
minute, keys expire, windows close, and logs are read side by side.
"""

from collections.abc import Iterator
from typing import Final

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.peers import Peer
from cli.doctor.site import Site
from transport.signing import WINDOW

TELL: Final = 1.0
"""Seconds of difference that are worth a warning."""
_NTP: Final = "run NTP (chrony, systemd-timesyncd) on both machines"


def clocks(site: Site) -> Iterator[Finding]:
    """Each process that tells the time, then the two that are furthest apart."""
    known = [peer for peer in [*site.peers.coordinators, *site.peers.workers] if peer.clock.known]
    if not known:
        yield skipped("clocks", "nobody tells us the time")
    for peer in known:
        yield _one(peer)
    if len(known) > 1:
        first = min(known, key=lambda peer: peer.clock.high)
        last = max(known, key=lambda peer: peer.clock.low)
        apart = last.clock.low - first.clock.high
        if apart > TELL:
            yield _judged(f"{first.name} and {last.name}", apart, f"at least {apart:.1f} s apart")


def _one(peer: Peer) -> Finding:
    clock = peer.clock
    said = f"{clock.low:+.2f} to {clock.high:+.2f} s from ours"
    return _judged(peer.name, clock.least, said) if clock.least > TELL else ok(peer.name, said)


def _judged(about: str, least: float, said: str) -> Finding:
    if least > WINDOW / 2:
        return fault(about, f"{said}: what is signed counts for {WINDOW:g} s only", _NTP)
    return warning(about, said, _NTP)
