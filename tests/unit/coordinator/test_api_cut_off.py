"""A request that is under way when its coordinator stops gets a true answer, and leaves no traceback."""

import asyncio
from typing import Any

import httpx
import pytest

from coordinator.api.cut_off import CutOff
from transport.http import HttpServer


class Hanging:
    """An application that has begun to work on a request, perhaps to answer it, and does not end."""

    def __init__(self, *, answers: bool) -> None:
        self.asked = asyncio.Event()
        self._answers = answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{answer}.complete"})
            return
        if self._answers:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        self.asked.set()
        await asyncio.Event().wait()


async def cut_off(app: Hanging) -> httpx.Response:
    server = HttpServer(CutOff(app))
    await server.start()
    try:
        async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False, timeout=20) as client:
            asking = asyncio.create_task(client.post(server.url + "/write"))
            await app.asked.wait()
            await server.stop(timeout=0.1)
            return await asking
    finally:
        await server.stop(timeout=0.1)


async def test_it_is_told_that_it_may_have_been_carried_out(caplog: pytest.LogCaptureFixture) -> None:
    answer = await cut_off(Hanging(answers=False))
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (504, "timeout", True)
    assert "may have been carried out" in answer.json()["error"]
    assert "Exception in ASGI application" not in caplog.text


async def test_an_answer_that_has_begun_is_broken_off_and_not_mended() -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await cut_off(Hanging(answers=True))
