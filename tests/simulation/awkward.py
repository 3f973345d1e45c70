"""Appends as another implementation of Raft would send them: legal, and unlike those of `raft.replication`.

PySyncObj itself, and an older release of this product, send heartbeats behind the end of the follower's log,
send entries again that the follower has, and send batches that overlap. Each is a true statement of the
leader about its log in its own term, so a follower must be safe with it. With these frames in the weather
the receiver's treatments (`raft.reconcile`) are needed, and the seeds miss them.
"""

import random

from raft import codec
from raft.correspondence import Asked
from raft.outbox import Outgoing
from raft.replication import AppendPlan
from raft.succession import Succession

FARTHEST = 30
"""Entries that an awkward append goes back behind the leader's last one."""


def awkward_append(core: Succession, peer: str, rng: random.Random) -> Outgoing | None:
    """One more append of this leader for `peer`, from a random place of its log; None when it cannot."""
    journal = core.journal
    if not core.is_leader or len(journal) < 2:
        return None
    last = journal.last_index
    prev = rng.randint(max(journal.first_index, last - FARTHEST), last)
    count = rng.choice((0, 0, 1, 2, last - prev))
    return append_from(core, peer, prev, min(count, last - prev))


def append_from(core: Succession, peer: str, prev: int, count: int) -> Outgoing:
    """An append of this leader for `peer`: `count` entries after `prev`, both in its log."""
    journal = core.journal
    entries = journal.typed(prev + 1, count, 100_000) if count else []
    plan = AppendPlan(prev, journal.term_at(prev), entries, wants_reply=True)
    stamp = core.letters.stamp(core.term)
    frame = codec.Append(*stamp, plan.prev_index, plan.prev_term, core.commit_index, entries)
    core.letters.expect_reply(frame.seq, Asked(peer, core.term, plan))
    return Outgoing(core.config.subject(peer, "append"), codec.encode(frame), f"{peer}.{frame.seq}")
