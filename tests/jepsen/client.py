"""A client of the coordinators' REST API that knows what an answer means for the history; see the package.

The three outcomes are types of `Answer`, and what decides is only what left the server: its status and its
error code. An answer that the API never promised for such a request (400, 500, a body that is none) is kept
as `Unknown`, and told in `surprises`.
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any, Final, Self

import httpcore
import msgspec

from proto_schemas.errors import ErrorCode, ErrorReply
from proto_schemas.rest.base import API_BASE
from proto_schemas.rest.workers import WorkerList, WorkerView

DEADLINE: Final = 4.0
"""Seconds for one request, from its call to the end of its answer."""
_CONNECT: Final = 1.0
_PAGE: Final = 1000
_REFUSED: Final = frozenset({ErrorCode.UNAVAILABLE.value, ErrorCode.NOT_LEADER.value})
_EXPECTED_UNKNOWN: Final = frozenset({ErrorCode.TIMEOUT.value})
_errors: "Final[msgspec.json.Decoder[ErrorReply]]" = msgspec.json.Decoder(ErrorReply)
_workers: "Final[msgspec.json.Decoder[WorkerView]]" = msgspec.json.Decoder(WorkerView)
_lists: "Final[msgspec.json.Decoder[WorkerList]]" = msgspec.json.Decoder(WorkerList)


@dataclass(frozen=True, slots=True)
class Took:
    """It took effect; `value` is what was read."""

    value: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It did not take effect and never will."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows."""

    why: str


Answer = Took | Refused | Unknown


class Client:
    """Requests to any coordinator, by its URL. Shared by all who ask from here."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._http = httpcore.AsyncConnectionPool(max_connections=200, max_keepalive_connections=60)
        self.surprises: list[str] = []

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._http.__aexit__(*exception)

    async def write(self, url: str, key: str, value: str, *, request: str = "") -> Answer:
        """Register worker `key` at the address `value`; `request`: the Idempotency-Key, else a fresh one."""
        capacity = {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 1}
        body = {"worker_id": key, "address": value, "api_key": "", "incarnation": value, "capacity": capacity}
        answer = await self._send("POST", f"{url}{API_BASE}/workers/register", body, request)
        return answer if isinstance(answer, Refused | Unknown) else Took()

    async def remove(self, url: str, key: str, *, request: str = "") -> Answer:
        """Remove worker `key`; when there is none, that changes nothing."""
        answer = await self._send("DELETE", f"{url}{API_BASE}/workers/{key}", request=request)
        if isinstance(answer, Refused | Unknown):
            return answer
        return Refused("there is none") if answer.status == 404 else Took()

    async def read(self, url: str, key: str, *, consistency: str = "linearizable") -> Answer:
        """The address of worker `key`; None when there is no such worker."""
        answer = await self._send("GET", f"{url}{API_BASE}/workers/{key}?consistency={consistency}")
        if isinstance(answer, Refused | Unknown):
            return answer
        return Took(None if answer.status == 404 else _workers.decode(answer.content).address)

    async def read_all(
        self, url: str, *, consistency: str = "linearizable"
    ) -> dict[str, str] | Refused | Unknown:
        """The addresses of all workers."""
        found: dict[str, str] = {}
        while True:
            query = f"limit={_PAGE}&offset={len(found)}&consistency={consistency}"
            answer = await self._send("GET", f"{url}{API_BASE}/workers?{query}")
            if isinstance(answer, Refused | Unknown):
                return answer
            page = _lists.decode(answer.content)
            found.update({worker.id: worker.address for worker in page.workers})
            if not page.pagination.has_more or not page.workers:
                return found

    async def _send(
        self, method: str, url: str, body: dict[str, Any] | None = None, request: str = ""
    ) -> httpcore.Response | Refused | Unknown:
        headers = [("content-type", "application/json")]
        if method != "GET":
            headers.append(("idempotency-key", request or uuid.uuid4().hex))
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._http.request(
                    method,
                    url,
                    headers=headers,
                    content=msgspec.json.encode(body) if body else None,
                    extensions={"timeout": {"connect": _CONNECT, "pool": _CONNECT}},
                )
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            return Refused(type(error).__name__)
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            TimeoutError,
        ) as error:
            return Unknown(type(error).__name__)
        return self._judge(f"{method} {url}", answer)

    def _judge(self, request: str, answer: httpcore.Response) -> httpcore.Response | Refused | Unknown:
        if answer.status < 300:
            return answer
        try:
            code = _errors.decode(answer.content).code
        except msgspec.MsgspecError:
            code = "no error object"
        if code == ErrorCode.NOT_FOUND and answer.status == 404:
            return answer
        if code in _REFUSED:
            return Refused(code)
        if code not in _EXPECTED_UNKNOWN:
            self.surprises.append(f"{request}: {answer.status} {answer.content[:300]!r}")
        return Unknown(code)
