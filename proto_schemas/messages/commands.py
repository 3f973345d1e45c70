"""The commands to workers, each with its request and its answer; and the one that only asks who is there."""

from proto_schemas.messages.base import Message
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.events import BatchInjected, Inject, InjectBatch, Injected
from proto_schemas.messages.moves import CheckpointRequest, Drain, Drained, Hold, Restore


class Hello(Message, frozen=True, kw_only=True):
    """`cmd.{worker}.hello`: who is there? Asked by a worker that starts, by a leader that has missed a
    heartbeat, and by a coordinator before it takes anybody in under an id that is held; then `attempt` is
    that of the registration that came.
    """

    attempt: str | None = None


class Present(Ok, frozen=True, kw_only=True):
    """Answer to `hello`: the process that listens, and whether the `attempt` to register was its own."""

    incarnation: str | None = None
    registers: bool = False


COMMANDS: dict[str, tuple[type[Message], type[Message] | None]] = {
    "deploy": (Deploy, Deployed),
    "undeploy": (Undeploy, Ok),
    "inject": (Inject, Injected),
    "inject_batch": (InjectBatch, BatchInjected),
    "hold": (Hold, Ok),
    "checkpoint": (CheckpointRequest, None),
    "restore": (Restore, Ok),
    "drain": (Drain, Drained),
    "hello": (Hello, Present),
}
"""Request and answer of each worker command; `checkpoint` answers free-form data."""
