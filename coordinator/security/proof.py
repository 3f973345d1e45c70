"""A registration under an id that is held: is it the holder, or his successor?

All workers register on one subject, so a right key and right NATS credentials say nothing of the id. What
does is `cmd.{worker_id}.>`: with the permissions of deploy/nats only that worker hears it. So before a
coordinator takes anybody in under an id whose worker is not unhealthy, it asks there who listens (`hello`),
with the secret that the registration carried (`Register.attempt`), and goes on when who answers says that
this was his. A worker subscribes its commands before it registers, so its restart is proved in one round
trip, and so is its registration after a lost connection.

    it says that the attempt is its own            taken in
    it says that it is not                         `forbidden`, counted and told of in the trail: it lives
    nobody listens, or gives a right answer        `unavailable`: until its holder is unhealthy, in seconds
    somebody who does not know the word answers    taken in, as ever: a worker of an earlier version

Nothing is asked where there is nobody to displace: the id is free, its worker is unhealthy, or it told no
incarnation (another program's worker, which may register before it subscribes); nor of a worker without
NATS, which `coordinator.state.names` and its own key guard. This coordinator may lag behind: so what was
proved goes into the log with the registration, and where another worker holds the id by then it is refused,
and tried again. Without permissions of NATS anybody can hear
anything, and this keeps out mistakes only.
"""

from typing import Protocol

from coordinator.security.door import Door
from coordinator.state.model import State
from coordinator.state.names import displaced
from coordinator.state.records import NATS
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.commands import Present
from proto_schemas.messages.membership import Register
from transport.errors import NatsTransportError


class Book(Protocol):
    """What is needed of `coordinator.ledger.Ledger`."""

    @property
    def state(self) -> State: ...


class Asker(Protocol):
    """What is needed of `coordinator.worker_commands.WorkerCommands`."""

    async def present(self, worker_id: str, attempt: str | None) -> Present: ...


class Proof:
    """Asks before an id changes hands."""

    def __init__(self, ledger: Book, commands: Asker, door: Door) -> None:
        self._ledger, self._commands, self._door = ledger, commands, door

    async def demand(self, message: Register, key_id: str) -> int:
        """The session whose place this registration may take, as was proved; 0: nobody's.

        Raises:
            WireError: `forbidden`, `unavailable`; see the module.
        """
        worker_id = message.worker_id
        session = displaced(self._ledger.state, worker_id, message.carrier or NATS)
        if not session:
            return 0
        try:
            present = await self._commands.present(worker_id, message.attempt)
        except WireError as error:
            if error.retryable:
                raise
            return session  # it does not know the word
        except NatsTransportError as error:
            text = (
                f"worker {worker_id} runs as far as is known, and nobody proved to be it ({error.kind}): "
                "subscribe its commands before you register; or wait until it is unhealthy, some seconds"
            )
            raise WireError(ErrorCode.UNAVAILABLE, text) from None
        if present.incarnation is not None and not present.registers:
            text = (
                f"worker {worker_id} runs, as incarnation {present.incarnation}, and says that this "
                "registration was not its own: stop that one, or choose another id (--id)"
            )
            raise self._door.intrusion(worker_id, key_id, text)
        return session
