"""An HTTP server inside our own event loop: uvicorn with httptools, without its signal handlers.

The port is bound before anything else starts, so a port in use is an error with a remedy and not a
half-started process. `stop` is bounded: open requests get their time, then they are cancelled, streams
included. httptools bounds neither the size of a request's head nor the time it takes to arrive; `BoundedHead`
does (bodies: `transport.limits`).
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, ErrorReply
from transport.errors import ConfigError
from transport.lag import LoopLag

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line with its headers."""
HEAD_TIMEOUT: Final = 10.0
"""Seconds until the head of a request must have arrived, from its first byte or from connecting."""
MAX_CONNECTIONS: Final = 2048
_KEEP_ALIVE: Final = 15
_START_TIMEOUT: Final = 30.0
_DATE_EVERY: Final = 1.0


class PortInUse(OSError):
    """Somebody listens there already, or the address is not ours; the text names the flag to change."""


class StartFailed(RuntimeError):
    """The application did not come up; its own log says why."""


class BoundedHead(HttpToolsProtocol):
    """A connection that is closed when the head of a request is too large or too slow, or when what comes is
    no HTTP. A request that came whole before that is answered first: it may have been carried out, and who
    reads the refusal in its answer's place would take it for refused.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._whole: Any = None
        self._head_bytes = 0
        self._in_head = True
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self._refuse, "Request head took too long.")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(f"Request head is larger than {MAX_HEAD} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._timer.cancel()
        self._head_bytes = 0
        self._in_head = True
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self._refuse, "Request head took too long.")

    def on_headers_complete(self) -> None:
        self._timer.cancel()
        self._in_head = False
        busy = max(len(self.connections), len(self.tasks)) >= MAX_CONNECTIONS
        self.app = _too_many if busy else self.config.loaded_app
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._whole = self.cycle

    def send_400_response(self, msg: str) -> None:
        whole = self._whole
        if whole is not None and not whole.response_complete:
            whole.keep_alive = False  # its answer is the last one
            if self.pipeline and self.cycle is not whole:
                self.pipeline.popleft()  # the one that broke off in the middle
            return
        broken = self.cycle
        if broken is None or broken.response_complete or not broken.response_started:
            self.transport.write(_refusal(f"{msg.rstrip('.')}: send HTTP/1.1"))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _refuse(self, text: str) -> None:
        if not self.transport.is_closing():
            self.send_400_response(text)


async def _too_many(scope: Any, receive: Any, send: Any) -> None:
    """In place of the application, where more connections or requests are open than it takes."""
    text = f"{MAX_CONNECTIONS} connections are open: close idle ones, or ask another node; or come back"
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    body = encode(ErrorReply(text, ErrorCode.UNAVAILABLE, retryable=True))
    await send({"type": "http.response.body", "body": body})


def _refusal(text: str) -> bytes:
    body = encode(ErrorReply(text, ErrorCode.BAD_REQUEST))
    head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class _Server(uvicorn.Server):
    """uvicorn's server that leaves signals alone and does not exit the process."""

    def __init__(self, config: uvicorn.Config, lag: LoopLag) -> None:
        super().__init__(config)
        self._lag = lag
        self.up = asyncio.Event()
        self.leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Set the date of the answers once a second, until it is time to leave, and note how late that was;
        uvicorn's own looks ten times a second whether it is.
        """
        loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            due = loop.time() + _DATE_EVERY
            try:
                async with asyncio.timeout_at(due):
                    await self.leave.wait()
            except TimeoutError:
                self._lag.woke(due, loop.time())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise StartFailed("the HTTP application failed to start: see the log before this") from None
        self.up.set()


class HttpServer:
    """Serve an ASGI application.

    Args:
        app: the ASGI callable; its lifespan runs between `start` and `stop`.
        port: 0 takes any free one; `url` tells which.
        flag: what a user changes when the port is taken, named in the error.
        tls_cert, tls_key: PEM files; without them it is plain HTTP.
        tls_client_ca: ask clients for a certificate of this authority (PEM file).
        lag: hears once a second, while this serves, how late the event loop is.
    """

    def __init__(
        self,
        app: Any,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        flag: str = "--port",
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_client_ca: str | None = None,
        lag: LoopLag | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._flag = flag
        self._scheme = "https" if tls_cert else "http"
        self._lag = lag or LoopLag()
        self._config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedHead,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
            ssl_ca_certs=tls_client_ca,
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls_client_ca else ssl.CERT_NONE,
        )
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the wanted one before `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Where to reach it from this machine."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def start(self) -> None:
        """Bind, start the application, listen.

        Raises:
            PortInUse: nothing was started.
            ConfigError: certificate or key cannot be used.
            StartFailed: the application refused to start.
        """
        self._load()
        listener = self._bind()
        self._port = listener.getsockname()[1]
        server = self._server = _Server(self._config, self._lag)
        self._task = asyncio.get_running_loop().create_task(server.serve([listener]), name=f"http {self.url}")
        up = asyncio.get_running_loop().create_task(server.up.wait())
        await asyncio.wait({up, self._task}, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if not server.started:
            listener.close()
            task, self._server, self._task = self._task, None, None
            await self._end(task)
            text = f"the HTTP application was not up within {_START_TIMEOUT:g} s: what does it wait for?"
            raise StartFailed(text)

    async def stop(self, timeout: float = 5.0) -> None:
        """Accept no more, let open requests finish for `timeout` seconds, cancel the rest; safe to call
        twice."""
        server, task = self._server, self._task
        if server is None or task is None:
            return
        self._server = self._task = None
        self._config.timeout_graceful_shutdown = timeout  # type: ignore[assignment]  # seconds; fractions work
        server.should_exit = True
        server.leave.set()
        await asyncio.wait({task}, timeout=timeout + 2.0)
        server.force_exit = True
        await self._end(task)

    async def _end(self, task: "asyncio.Task[None]") -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        elif not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def _load(self) -> None:
        if self._config.loaded:
            return
        try:
            self._config.load()
        except OSError as error:
            files = f"{self._config.ssl_certfile}, {self._config.ssl_keyfile}, {self._config.ssl_ca_certs}"
            raise ConfigError(f"TLS files {files}: {error}: give readable PEM files that match") from None

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # TCP_NODELAY needs it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            listener.listen(MAX_CONNECTIONS)
        except (OSError, OverflowError) as error:
            listener.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            cause = "another process listens there" if taken else str(error)
            where = f"{self._host}:{self._port}"
            text = f"cannot listen on {where}: {cause}: end it, or choose another with {self._flag}"
            raise PortInUse(text) from None
        listener.setblocking(False)
        return listener
