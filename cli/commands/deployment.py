"""For whoever deploys: `probe`, which a container's health check runs, and `checkpoints prepare`.

`probe` needs neither a shell nor another program in an image. Without a URL it reads the settings that the
process beside it was started with, and asks that one.
"""

import asyncio
import time
from typing import Final
from urllib.parse import urlsplit

from cli.commands.nodes import nats_config
from cli.errors import FAILED, OK, CliError, UsageError
from cli.http import Connections, NoAnswer, NotListening
from cli.invocation import Invocation, Rows
from cli.resolve import Settings
from transport.errors import NatsTransportError
from transport.tls import client_context

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
_REPLICAS: Final = (1, 3, 5)
_PAUSE: Final = 0.5
"""Seconds between two tries."""


def probe(call: Invocation) -> int:
    """Ask `/readyz`; the answer's text goes to stderr where it is not yes."""
    given, within = call.arguments["url"], call.arguments["within"]
    if not 0.1 <= within <= 60:
        raise UsageError(f"--within {within:g} is out of range: give seconds from 0.1 to 60")
    own = None if given else _own(call.settings)
    url = given or f"{_url(call.settings, own or '')}/{'livez' if call.arguments['live'] else 'readyz'}"
    tls = None
    if urlsplit(url).scheme == "https":
        section = own or "client"
        ca, cert, key = (call.settings[f"{section}.tls_{name}"] for name in ("ca", "cert", "key"))
        tls = client_context(ca=ca, cert=cert, key=key)
        tls.check_hostname = own is None  # its certificate need not name the loopback address
    connections = Connections(tls=tls)
    try:
        answer = connections("GET", url, timeout=within)
    except (NotListening, NoAnswer) as error:
        call.note(f"varpulis: {url}: {error}")
        return FAILED
    finally:
        connections.close()
    if answer.status == 200:
        return OK
    call.note(f"varpulis: {url}: {answer.status} {answer.body[:400].decode(errors='replace')}")
    return FAILED


def _own(settings: Settings) -> str:
    """The section of the process whose settings these are."""
    named = [section for section in ("coordinator", "worker") if settings[f"{section}.id"]]
    if len(named) != 1:
        raise UsageError(
            "which process? give its URL, or VARPULIS_COORDINATOR_ID or VARPULIS_WORKER_ID as it has it"
        )
    return named[0]


def _url(settings: Settings, section: str) -> str:
    host, port = settings[f"{section}.http_host"], settings[f"{section}.http_port"]
    if not port:
        raise UsageError(f"{section}.http_port is 0, so it listens anywhere: give the URL, or a port")
    scheme = "https" if settings[f"{section}.tls_cert"] else "http"
    return f"{scheme}://{_EVERYWHERE.get(host, host)}:{port}"


def prepare(call: Invocation) -> int:
    """Make the bucket, going on trying while JetStream is not up yet."""
    replicas, max_bytes, within = (call.arguments[name] for name in ("replicas", "max_bytes", "within"))
    if replicas not in _REPLICAS or max_bytes < 0 or not 0 <= within <= 600:
        raise UsageError(
            f"--replicas {replicas}, --max-bytes {max_bytes} or --within {within:g} is out of range: "
            "give 1, 3 or 5, 0 or more, and 0 to 600 seconds"
        )
    name = asyncio.run(_prepare(call, replicas, max_bytes, time.monotonic() + within))
    call.show({"bucket": name, "replicas": replicas}, Rows((), (), f"{name} is there"))
    return OK


async def _prepare(call: Invocation, replicas: int, max_bytes: int, deadline: float) -> str:
    from transport.nats import NatsTransport
    from worker.store.base import StoreDown
    from worker.store.jetstream import BUCKET, JetStreamStore

    settings = call.settings
    config = nats_config(settings, settings["nats.user"] or "varpulis-prepare")
    try:
        bus = await NatsTransport.connect(config, wait=max(deadline - time.monotonic(), 0) or None)
    except NatsTransportError as error:
        raise CliError(str(error)) from None
    try:
        store = JetStreamStore(bus, replicas=replicas, max_bytes=max_bytes or -1)
        while True:
            try:
                await store.make()
                return BUCKET
            except StoreDown as error:
                if time.monotonic() + _PAUSE > deadline:
                    raise CliError(f"{error}: start as many servers as replicas, or give fewer") from None
            await asyncio.sleep(_PAUSE)
    finally:
        await bus.close(timeout=1.0)
