"""The way to the coordinators over HTTP: any of several, tried in turn; the one that answered stays first.

- Each of them takes a request to the leader, so any will do. One that does not answer, or says that there is
  no leader, is left for the next; a request goes round once, and the next beat, or the next attempt to
  register, begins where the last one was answered.
- A heartbeat that comes twice because the first answer was lost has the number of the first and counts once.
  One in parts (`worker.parts`) is answered by its first, and went out when all of them did.
- A heartbeat went out when the leader took it, or when a coordinator answered that nobody leads now and most
  of them cannot: they say so too, or no process listens there. That is no sign that we are cut off, and
  pipelines run on without a leader, as over NATS (`worker.lease`). When more are silent, we may be cut off
  together with the one that answers while the silent ones have a leader that places our pipelines elsewhere,
  so the lease runs out. Who gives one URL of several trusts it in this.
- 404: the cluster does not know us, so we register again. 409: another process has our id, and is newer.
- The key for our commands goes with registrations and heartbeats in a header, so that each new leader learns
  it with the next beat and nobody has to store it.
"""

import logging
import uuid
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import Heartbeat, HeartbeatAck, Register, Registered
from proto_schemas.rest.base import API_BASE
from proto_schemas.rest.workers import Acknowledged
from proto_schemas.worker_rest import KEY_HEADER, WORKER_KEY_HEADER
from transport.errors import ErrorKind, NatsTransportError
from transport.http_client import HttpClient, message_of
from worker.link import Ears
from worker.parts import fitting, in_messages

REGISTER_TIMEOUT: Final = 5.0
"""Seconds one coordinator is given to register us."""
BEAT_TIMEOUT: Final = (0.5, 1.0)
"""Seconds one coordinator is given to take a heartbeat: an interval, within these. Longer would use up the
lease on one that froze; shorter would not wait for one that looks for a leader (0.2 s) to say that there is
none."""
_NOBODY_LEADS: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.NOT_LEADER, ErrorCode.TIMEOUT})

T = TypeVar("T", bound=msgspec.Struct)
log = logging.getLogger(__name__)


class RestLink:
    """Over HTTP; see `worker.link.Link`.

    Args:
        urls: the coordinators, at least one, each as `transport.http_client.base_url` gives it.
        api_key: what the coordinators ask for; empty: none is shown.
        worker_key: what they have to show to us.
    """

    def __init__(
        self, http: HttpClient, urls: Sequence[str], worker_id: str, *, api_key: str, worker_key: str
    ) -> None:
        self._http = http
        self._urls = list(urls)
        self._worker_id = worker_id
        self._headers = {WORKER_KEY_HEADER: worker_key}
        if api_key:
            self._headers[KEY_HEADER] = api_key
        self._ears: Ears | None = None
        self.connected = False
        self.changes = 0

    @property
    def coordinator(self) -> str:
        """The one that is asked first."""
        return self._urls[0]

    async def open(self, ears: Ears) -> None:
        """See `Link`."""
        self._ears = ears

    async def register(self, request: Register) -> Registered:
        """See `Link`. One attempt has one id, whichever coordinators it goes to: it counts once."""
        once = {"idempotency-key": f"register:{uuid.uuid4().hex}"}
        try:
            body = encode(fitting(request))
            return await self._ask("/workers/register", body, Registered, once, REGISTER_TIMEOUT)
        except WireError as error:
            if error.code == ErrorCode.CONFLICT and self._ears is not None:
                self._ears.superseded(error.error)
            raise

    async def beat(self, seq: int, heartbeat: Heartbeat, interval: float) -> None:
        """See `Link`."""
        if self._ears is None:  # a stop before membership began
            raise NatsTransportError(ErrorKind.DISCONNECTED, "no heartbeat went out yet: register first")
        shortest, longest = BEAT_TIMEOUT
        timeout = min(max(interval, shortest), longest)
        for number, message in enumerate(in_messages(heartbeat)):
            answer = await self._tell(self._ears, message, timeout)
            if answer is None:
                return
            if number == 0 and answer.lease_secs is not None and answer.term is not None:
                word = HeartbeatAck(
                    term=answer.term,
                    lease_secs=answer.lease_secs,
                    directives=answer.directives,
                    judged=answer.judged,
                    renews=answer.renews,
                )
                await self._ears.acknowledged(seq, word)

    async def _tell(self, ears: Ears, message: bytes, timeout: float) -> Acknowledged | None:
        """The answer to a heartbeat, or a part of one; None when none of them takes it, which the ears hear
        where it is about us."""
        try:
            return await self._ask(
                f"/workers/{self._worker_id}/heartbeat", message, Acknowledged, {}, timeout
            )
        except WireError as error:
            if error.code == ErrorCode.NOT_FOUND:
                ears.unknown()
            elif error.code == ErrorCode.CONFLICT:
                ears.superseded(error.error)
            elif error.code not in _NOBODY_LEADS:
                raise
        return None

    async def _ask(self, path: str, body: bytes, kind: type[T], headers: dict[str, str], timeout: float) -> T:
        """The first answer that is one, from any of them.

        Raises:
            WireError: one refused it; `unavailable` and the like only when none did better, and most are so.
            NatsTransportError: too few answered.
        """
        failure: WireError | None = None
        silent: NatsTransportError | None = None
        leading = len(self._urls)  # at most
        for url in list(self._urls):
            try:
                answer = await self._http.send(
                    "POST", url, API_BASE + path, body, {**self._headers, **headers}, timeout=timeout
                )
                found = message_of(answer, kind)
            except NatsTransportError as error:
                silent = silent or error
                leading -= error.kind is ErrorKind.NO_RESPONDERS
                continue
            except WireError as error:
                if error.code not in _NOBODY_LEADS:
                    self._answered(url)
                    raise
                failure, leading = error, leading - 1
                continue
            self._answered(url)
            return found
        self.connected = failure is not None
        if silent is not None and (failure is None or 2 * leading >= len(self._urls)):
            raise silent
        assert failure is not None, "there is at least one URL"
        raise failure

    def _answered(self, url: str) -> None:
        self.connected = True
        if url != self._urls[0]:
            self.changes += 1
            log.info("worker=%s goes on with coordinator %s", self._worker_id, url)
            self._urls.remove(url)
            self._urls.insert(0, url)
