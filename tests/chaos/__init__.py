"""A whole cluster under random faults and operations; it comes back to what was asked of it.

One nats-server, three coordinators, six workers (two of them over REST), all real processes; a plan drawn
from a seed (`plan`) kills, freezes and cuts them off, and meanwhile deploys, updates, tears down, drains,
cordons, rebalances and migrates (`stage`), each write under an idempotency key and through any node until
it is answered (`writes`). Numbered events run through all pipelines, and each output carries the worker and
the epoch of the copy that put it out (`worker`, `outputs`). `trial` puts it together.

**Convergence.** After each round, at a *calm*, every fault ends: what was killed is started, what was frozen
goes on, links pass (in every other round killed workers stay dead, so that a failover is measured and not
a restart). From then on the workers themselves are asked what they run. It must come to be exactly what the
acknowledged writes add up to, each instance once and under the epoch that the state gives it, and be so
within `calm.BOUND`; then migrations, updates and drains have ended, events pass through every pipeline once,
and the three coordinators hold the same placements.

**Fencing**, all the while. Of two copies of an instance the older puts nothing out once the newer one has, by
the clock of the machine, and no event comes out of a pipeline twice. This is the promise of the leases
(`worker.lease`) for a worker that is cut off or frozen, and of the hand-over (`worker.handover`) for a
move. The one exception of the lease design, a worker that is cut off from the coordinators but not from NATS,
needs a network that these faults do not make.

**Writes.** What was acknowledged is there at the end; what was sent several times under one key has been
done once at most, which the audit trail must show.

A seed fixes which faults and operations come, in which order and when they are due; not what the scheduler
makes of them, nor who leads when "the leader" is hit.

    python -m tests.chaos --minutes 5
"""
