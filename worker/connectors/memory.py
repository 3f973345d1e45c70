"""`connector Mem = memory()`: topics inside this process, for tests and for trials without a broker.

Topics belong to the process, so a test (or a second pipeline) reaches them by name. The newest `CAPACITY`
outputs of a topic are kept; older ones make room, and are counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from transport.subscription import Handler, Message
from worker.connectors.base import Connector, ConnectorError, Sink, Site, encode_output, known_params

CAPACITY: Final = 10_000


class Topic:
    """One topic: what was put out on it, and who hears it.

    Attributes:
        outputs: the newest outputs, as JSON.
        evicted: outputs that made room for newer ones.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outputs: deque[bytes] = deque(maxlen=CAPACITY)
        self.evicted = 0
        self.receivers: list[tuple[Handler, str]] = []

    async def publish(self, data: bytes) -> None:
        """Keep `data`, and give it to every receiver in turn; of those with one queue, to the oldest."""
        self.evicted += len(self.outputs) == CAPACITY
        self.outputs.append(data)
        served: set[str] = set()
        for receive, queue in tuple(self.receivers):
            if not queue or queue not in served:
                served.add(queue)
                await receive(Message(self.name, data))


class Topics:
    """The topics of a process, made when first named."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}

    def __getitem__(self, name: str) -> Topic:
        return self._topics.setdefault(name, Topic(name))


TOPICS: Final = Topics()


class MemoryConnector(Connector):
    """Sources and sinks on `TOPICS`."""

    type = "memory"

    def __init__(self, name: str, params: Mapping[str, Any], site: Site) -> None:
        super().__init__(name, params, site)
        known_params(f"connector {name}", params)
        self._receivers: dict[str, tuple[Handler, str]] = {}

    async def start_source(self, params: Mapping[str, Any], receive: Handler, queue: str = "") -> None:
        topic = self._topic(params)
        if topic in self._receivers:
            return

        async def count_and_receive(message: Message) -> None:
            self.count_message()
            await receive(message)
            await asyncio.sleep(0)

        self._receivers[topic] = count_and_receive, queue
        TOPICS[topic].receivers.append(self._receivers[topic])

    async def watch_source(self, params: Mapping[str, Any], see: Callable[[Message], None]) -> None:
        self._topic(params)  # one receiver of a queue gets all until it leaves: there is no order to witness

    async def stop_watching(self) -> None:
        return None

    async def create_sink(self, stream: str, params: Mapping[str, Any]) -> Sink:
        return _MemorySink(TOPICS[self._topic({"topic": stream, **params})])

    async def stop_sources(self) -> None:
        for topic, receiver in self._receivers.items():
            TOPICS[topic].receivers.remove(receiver)
        self._receivers.clear()

    @property
    def connected(self) -> bool:
        return True

    def _topic(self, params: Mapping[str, Any]) -> str:
        known_params(f"connector {self.name}", params, "topic")
        topic = params.get("topic")
        if not isinstance(topic, str) or not topic:
            raise ConnectorError(
                f'connector {self.name}: topic must be given as text, such as topic: "doors"'
            )
        return topic


class _MemorySink:
    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        await self._topic.publish(encode_output(event_type, fields, ts))
