"""Events that one instance of a pipeline passes on to another.

Instances that share by key keep the shares into which their events were cut when they were deployed, though
they have become more or fewer since: then who takes an event is not always who owns its key. Whoever takes it
passes it on to the owner, on a subject of the owner's own. So the events of one key go one way, and keep
their order.
"""

from typing import Any

from proto_schemas.codec import encode_fields
from proto_schemas.subjects import RELAYED, Subjects
from transport.errors import NatsTransportError
from transport.nats import NatsTransport
from worker.connectors.base import OutputDropped
from worker.connectors.nats import drop_reason


class Relay:
    """Passes events on to the instances of `pipeline`.

    Attributes:
        under_way: how many are being published.
    """

    def __init__(self, bus: NatsTransport, subjects: Subjects, group: str, pipeline: str) -> None:
        self._bus = bus
        self._subjects = subjects
        self._group = group
        self._pipeline = pipeline
        self._to: dict[int, str] = {}
        self.under_way = 0

    def subject(self, number: int) -> str:
        """Where an instance hears what is passed on to it."""
        known = self._to.get(number)
        if known is None:
            name = f"{self._pipeline}-{number}"
            known = self._to[number] = self._subjects.pipeline(self._group, RELAYED, name)
        return known

    async def send(self, number: int, event_type: str, fields: dict[str, Any], ts: int) -> None:
        """Pass one on.

        Raises:
            OutputDropped: it did not leave.
        """
        self.under_way += 1
        try:
            data = encode_fields({"event_type": event_type, "timestamp": ts, "fields": fields})
            await self._bus.publish(self.subject(number), data)
        except NatsTransportError as error:
            raise OutputDropped(drop_reason(error), str(error)) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise OutputDropped("not_json", str(error)) from None
        finally:
            self.under_way -= 1
