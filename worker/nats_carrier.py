"""Commands over NATS: what comes on `cmd.{worker_id}.>` goes to the dispatcher, its answer to the reply
subject.

A command is a request, so what has no reply subject is none: it may be an *answer*, of JetStream or of
another service, that somebody who may ask those had sent here. Nor is what JetStream delivers here and was
published on another subject.
"""

import asyncio
import logging

from transport import tracing
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport, Subscription
from worker.dispatcher import Dispatcher, named

log = logging.getLogger(__name__)


class NatsCarrier:
    """Carries commands of one subject to a dispatcher."""

    def __init__(self, bus: NatsTransport, dispatcher: Dispatcher) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def serve(self, subject: str) -> None:
        """Answer what comes on `subject` (`cmd.{worker_id}.>`)."""
        prefix = subject.removesuffix(">")

        async def hand_over(message: Message) -> None:
            if not message.reply or not message.subject.startswith(prefix):
                log.warning(
                    "dropped a message on %s with reply %r: no command", message.subject, message.reply
                )
                return
            task = asyncio.create_task(self._reply(message.subject.removeprefix(prefix), message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._subscription = await self._bus.subscribe(subject, hand_over)

    async def stop(self, timeout: float) -> None:
        """Take no more commands; those at work get `timeout` seconds."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()

    async def _reply(self, command: str, message: Message) -> None:
        with tracing.span(f"worker {named(command)}", "server", tracing.parent_of(_traceparent(message))):
            answer = await self._dispatcher.dispatch(command, message.data)
        if message.reply:
            try:
                await self._bus.publish(message.reply, answer)
            except NatsTransportError as error:
                log.warning("answer to command=%s not sent: %s", command, error)


def _traceparent(message: Message) -> str | None:
    return message.headers.get(tracing.HEADER) if message.headers else None
