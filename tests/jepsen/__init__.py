"""Real coordinators under faults, and the proof from outside that nothing acknowledged was lost.

In the manner of Jepsen: a cluster of real processes (`cluster`), each coordinator with a link of its own to
NATS that can be cut and frozen (`link`), clients that read and write registers through all of them
(`workload`, `client`), and a nemesis that harms the cluster by a seeded plan (`nemesis`, `faults`). What the
clients saw goes, with real times, to the checker of `tests.linearizability`. `trial` puts it together.

**The register.** A worker's entry in the replicated state: `POST /workers/register` writes its address (each
value once), `DELETE /workers/{id}` writes nothing, `GET /workers/{id}` reads; all through the public API.

**What an answer means.** 2xx: it took effect between call and return. `unavailable`, `not_leader`, or no
connection: it did not, and never will; that is the API's promise, and it is held to it: a value that shows up
later was written by nobody. Anything else: unknown, so a write may take effect at any time after its call, or
never. A client whose outcome is unknown goes on as another process. Half of these writes are repeated first
under the same `Idempotency-Key`, through any coordinator, and count as the one write that this promises.

**What is checked beside the history.** At most one coordinator claims a term; nobody dies or withdraws by
himself; after each fault all are ready and writes go on within bounded time; at the end all hold the same.

A seed fixes which faults come, in which order and for how long; not what the scheduler makes of them. So a
failure keeps the history, to be checked again, and the coordinators' logs.

    python -m tests.jepsen --minutes 30
"""
