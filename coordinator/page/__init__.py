"""The page at `/` of every coordinator: what an operator looks at, and does, without a tool.

One document, one style sheet, and modules of JavaScript that the browser takes as they are: no build, and
nothing from anywhere else, which the `Content-Security-Policy` also says. The files themselves are open, for
they tell nothing; all data comes from the API, with the reader's key. A follower serves it as the leader
does.
"""

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from coordinator.api.context import AnyRequest

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "same-origin",  # with "no-referrer" browsers would not tell us their origin either
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class _File(NamedTuple):
    content: bytes
    kind: str
    etag: str


def _load() -> dict[str, _File]:
    found = {}
    for file in files(__name__).iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            found[file.name] = _File(content, f"{kind}; charset=utf-8", etag)
    return found


FILES: Final = _load()


@get("/", opt={"page": True})
async def index(request: AnyRequest) -> Response[bytes]:
    """The document."""
    return _answer(request, FILES["index.html"])


@get("/page/{name:str}", opt={"page": True})
async def part(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """A style sheet or module of it."""
    if name not in FILES:
        raise NotFoundException("the page has no such part")
    return _answer(request, FILES[name])


def _answer(request: AnyRequest, file: _File) -> Response[bytes]:
    headers = {**_HEADERS, "etag": file.etag, "content-type": file.kind}
    if request.headers.get("if-none-match") == file.etag:
        return Response(b"", status_code=304, headers=headers)
    return Response(file.content, headers=headers)


HANDLERS: Final = [index, part]
