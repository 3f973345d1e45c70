"""A stand-in for a coordinator: a small server that keeps what it was asked and answers as it is told."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


class Coordinator(ThreadingHTTPServer):
    """Answers every request with `status` and `answer`, or what `answers` says for its path, and keeps what
    it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.status, self.answer = 200, b"{}"
        self.answers: Callable[[str], Any] | None = None
        self.cut = 0
        self.ahead = 0.0
        """Seconds by which its clock is wrong."""

    def tell(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body for a request."""
        del method, path
        return self.status, self.answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


Server = TypeVar("Server", bound=Coordinator)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Coordinator

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/api/v1/cluster")
        as_json = self.headers.get("Content-Type") == "application/json"
        self.server.asked.append((self.command, path, json.loads(body) if as_json else body or None))
        self.server.keys.append(self.headers.get("x-api-key"))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, answer = self.server.tell(self.command, self.path.partition("?")[0])
        if self.server.answers is not None:
            answer = json.dumps(self.server.answers(path)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) - self.server.cut])
        self.close_connection = bool(self.server.cut)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.server.ahead)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def serving() -> Iterator[Coordinator]:
    """One that runs, in a thread."""
    with served(Coordinator()) as server:
        yield server


@contextlib.contextmanager
def served(server: Server) -> Iterator[Server]:
    """The one that is given, running in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
