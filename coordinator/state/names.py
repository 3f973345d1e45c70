"""Who may speak under a worker's id: what API keys say about it.

An id is worth something: whoever registers under it takes over what its holder ran. So

- a key may be **bound** to one worker, or with `*` at the end to those whose ids begin so; under another id
  it does not count;
- a key that is not bound may speak as any worker whose id is **free**. An id is held by the key under which
  its worker registered, for as long as that worker is not unhealthy and that key counts; only that key, or
  one that replaced it, may register under it meanwhile. A restart under the same key takes over at once.

Where no keys are asked for, none of this holds, and an id that was registered then is held by nobody. Pure:
the time comes with the question, so every replica says the same.
"""

from coordinator.state.model import State
from coordinator.state.records import REST, ApiKey, WorkerStatus
from proto_schemas.matching import matches
from proto_schemas.subjects import check_id


def fault_of_binding(pattern: str) -> str | None:
    """What is wrong with what a key is to be bound to, and what would be right; None when it is sound."""
    name = pattern.removesuffix("*")
    try:
        if name:
            check_id(name, "worker")
    except ValueError as error:
        return f"{error}; a '*' stands only at the end, as in 'edge-*'"
    return None if name else f"{pattern[:80]!r} binds to nobody in particular: leave it out for any worker"


def fault_in_name(state: State, worker_id: str, key_id: str, at: int) -> str | None:
    """Why a key may not register a worker under this id at a time (ms since 1970); None when it may."""
    if not key_id:
        return None
    fault = fault_in_binding(state, worker_id, key_id)
    worker = state.workers.get(worker_id)
    if fault is not None or worker is None or worker.status is WorkerStatus.UNHEALTHY:
        return fault
    holder = state.keys.get(worker.key_id)
    if holder is None or not holder.counts(at) or _succeeds(state, holder, key_id):
        return None
    return (
        f"worker {worker_id} runs and registered under key {holder.id}, and this is key {key_id}: use that "
        "key, stop that worker first, or choose another id (--id)"
    )


def fault_in_voice(state: State, worker_id: str, key_id: str) -> str | None:
    """Why a key may not speak for a worker that is registered; None when it may."""
    if not key_id:
        return None
    fault = fault_in_binding(state, worker_id, key_id)
    worker = state.workers.get(worker_id)
    holder = state.keys.get(worker.key_id) if worker is not None else None
    if fault is not None or holder is None or _succeeds(state, holder, key_id):
        return fault
    return (
        f"worker {worker_id} registered under key {holder.id}, and this is key {key_id}: register under that "
        "id first, or use its key"
    )


def displaced(state: State, worker_id: str, carrier: str) -> int:
    """The session of the worker whose place a registration under its id takes, and which only who proved to
    be it may take; 0: nobody's, for the id is free, its worker is unhealthy or told no incarnation, or both
    have no NATS to prove anything on."""
    worker = state.workers.get(worker_id)
    if worker is None or worker.status is WorkerStatus.UNHEALTHY or worker.incarnation is None:
        return 0
    return 0 if worker.carrier == REST == carrier else worker.session


def fault_in_binding(state: State, worker_id: str, key_id: str) -> str | None:
    """Why a key may not be used by a worker of this id, whoever holds it; None when it may."""
    key = state.keys.get(key_id)
    if key is None or not key.worker or matches((key.worker,), worker_id):
        return None
    return (
        f"key {key_id} is bound to worker {key.worker} and does not count for {worker_id[:80]}: use the key "
        "of that worker, or have an admin make one (`varpulis key create worker --worker ID`)"
    )


def _succeeds(state: State, holder: ApiKey, key_id: str) -> bool:
    """Whether a key is the holder, or came in its place by rotation."""
    seen: set[str] = set()
    next_id: str | None = holder.id
    while next_id is not None and next_id not in seen:
        if next_id == key_id:
            return True
        seen.add(next_id)
        following = state.keys.get(next_id)
        next_id = following.replaced_by if following is not None else None
    return False
