"""The process that publishes the demo's trades, at a steady rate, until it is told to stop.

Trades that fell due while NATS was away are not sent later in a burst: their numbers are sent when it is
back, and the rate stays the rate. So the numbers have no gaps on the generator's side.
"""

import asyncio
import signal
import time
from typing import Final

from cli.demo.trades import EVENT_TYPE, subject, trade
from proto_schemas.codec import encode_fields
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.nats import NatsTransport

_TICK: Final = 0.02
_AWAY_PAUSE: Final = 0.2
_CONNECT_PATIENCE: Final = 10.0


async def generate(config: NatsConfig, *, rate: float, count: int) -> int:
    """Publish trades 0, 1, 2 ... at `rate` a second; `count` of them, or (0) until SIGTERM or SIGINT.

    Returns the number of trades published.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    transport = await NatsTransport.connect(config, wait=_CONNECT_PATIENCE)
    try:
        return await _publish_until(stopping, transport, rate=rate, count=count)
    finally:
        await transport.close()


async def _publish_until(
    stopping: asyncio.Event, transport: NatsTransport, *, rate: float, count: int
) -> int:
    sent, due = 0, 0.0
    while not stopping.is_set() and (count == 0 or sent < count):
        due += rate * _TICK
        try:
            while due >= 1.0 and (count == 0 or sent < count):
                await _publish(transport, sent)
                sent, due = sent + 1, due - 1.0
        except NatsTransportError:
            due = 0.0
            await _pause(stopping, _AWAY_PAUSE)
        await _pause(stopping, _TICK)
    return sent


async def _publish(transport: NatsTransport, number: int) -> None:
    event = {"event_type": EVENT_TYPE, "timestamp": time.time_ns() // 1_000_000, "fields": trade(number)}
    await transport.publish(subject(number), encode_fields(event))


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
