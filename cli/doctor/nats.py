"""NATS: each server greets, takes our credentials, answers fast, and all of them are one cluster.

The greeting is read from a plain connection first: it tells of the server before any secret is sent to it.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from cli.doctor.findings import Finding, fault, judged, ok, skipped, warning
from cli.doctor.site import Site
from transport.config import NatsConfig
from transport.errors import ConfigError, NatsTransportError
from transport.nats import NatsTransport

PATIENCE: Final = 2.0
OLDEST: Final = (2, 9)
TRANSACTIONS: Final = (2, 12)
"""Since when a server has what `exactly_once` needs."""
USUAL_PAYLOAD: Final = 1024 * 1024
LEAST_PAYLOAD: Final = 64 * 1024
_GREETING: Final = 64 * 1024
_ROUND_TRIPS: Final = 5


def nats(site: Site) -> Iterator[Finding]:
    """Every server that is named."""
    config = site.nats
    if config is None:
        yield skipped("nats", "its settings contradict each other: see configuration")
        return
    if site.rests and not site.settings.resolved("nats.url").given:
        yield skipped("nats", f"no process of the cluster in {site.call.data_dir} runs")
        return
    if _elsewhere(site):
        yield skipped("nats", "the cluster is elsewhere and the settings name no NATS server")
        return
    greetings = {}
    for url in config.servers:
        try:
            greetings[url] = _greeting(url)
        except OSError as error:
            if not (site.record or site.roles or site.settings.resolved("nats.url").given):
                yield skipped("nats", f"no server is named, and none greets at {url}")
                continue
            why = error.strerror or str(error) or type(error).__name__
            yield fault(url, f"no nats-server greets there: {why}", "start it, or correct nats.url")
            continue
        yield from _judge(url, greetings[url])
        yield from asyncio.run(_connected(site, replace(config, servers=(url,)), url))
    yield from _one_cluster(greetings)
    yield from _streams(site, greetings)


def _elsewhere(site: Site) -> bool:
    settings = site.settings
    asked = site.record is not None or bool(site.roles) or settings.resolved("nats.url").given
    by_rest = site.roles == ["worker"] and bool(settings["worker.coordinators"])
    return by_rest or (not asked and bool(settings["client.url"]))


def _greeting(url: str) -> dict[str, Any]:
    """What a server says of itself to everybody.

    Raises:
        OSError: nobody does.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 4222), timeout=PATIENCE) as connection:
        connection.settimeout(PATIENCE)
        text = b""
        while not text.endswith(b"\n") and len(text) < _GREETING:
            more = connection.recv(4096)
            if not more:
                break
            text += more
    if not text.startswith(b"INFO "):
        raise OSError("what listens there is no nats-server")
    try:
        return msgspec.json.decode(text.partition(b"\n")[0][5:].strip(), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise OSError("its greeting cannot be read") from None


def _judge(url: str, info: dict[str, Any]) -> Iterator[Finding]:
    said = str(info.get("version", "?"))
    if version(said) < OLDEST:
        yield fault(url, f"is nats-server {said}", "2.9 is the oldest that is supported; see docs/deploy.md")
    payload = int(info.get("max_payload", 0))
    if payload < LEAST_PAYLOAD:
        yield fault(url, f"takes messages of {payload} bytes", "set max_payload: 1MB in its configuration")
    elif payload < USUAL_PAYLOAD:
        yield warning(
            url,
            f"takes messages of {payload} bytes: larger states and batches go in more parts",
            "set max_payload: 1MB in its configuration",
        )


async def _connected(site: Site, config: NatsConfig, url: str) -> list[Finding]:
    """Our credentials, and a round trip; whether JetStream answers, where it is needed."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(2 * config.connect_timeout):
            bus = await NatsTransport.connect(config)
    except (NatsTransportError, ConfigError) as error:
        return [judged(url, error)]
    except TimeoutError:
        return [fault(url, "greets, and does not let us in", "is it overloaded, or a proxy in between?")]
    try:
        best = min([await _round_trip(bus) for _ in range(_ROUND_TRIPS)])
        election = site.settings["coordinator.election_timeout_min"]
        said = f"takes our credentials, a round trip takes {best * 1000:.1f} ms"
        near = "run it nearer to the coordinators, or raise election_timeout_min and _max on all of them"
        if best > election / 3:
            found.append(fault(url, f"{said}: elections are held after {election:g} s", near))
        elif best > election / 15:
            found.append(warning(url, said, near))
        else:
            found.append(ok(url, said))
        if need := _needs_jetstream(site):
            found.append(await _jetstream(bus, url, need))
    except NatsTransportError as error:
        found.append(judged(url, error))
    finally:
        await bus.close(timeout=1.0)
    return found


async def _round_trip(bus: NatsTransport) -> float:
    begun = time.perf_counter()
    await bus.flush(PATIENCE)
    return time.perf_counter() - begun


def _needs_jetstream(site: Site) -> str:
    """Who needs it; empty: nobody that we know of."""
    if site.settings["worker.checkpoint_store"] == "jetstream":
        return "checkpoint_store is jetstream"
    groups = (site.peers.page("/pipeline-groups?limit=1000") or {}).get("pipeline_groups", [])
    stored = [group["name"] for group in groups if group["delivery"] != "at_most_once"]
    return f"group {stored[0]} delivers at least once" if stored else ""


async def _jetstream(bus: NatsTransport, url: str, need: str) -> Finding:
    try:
        account = await bus.jetstream(timeout=PATIENCE).account_info()
    except Exception as error:  # nats-py has many words for no
        why = str(error) or type(error).__name__
        return fault(
            url, f"no JetStream for us ({why}), and {need}", "switch it on: deploy/nats/jetstream.conf"
        )
    return ok(url, f"JetStream: {account.streams} streams, {account.storage:,} bytes stored")


def _one_cluster(greetings: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """Servers that are no cluster pass nothing on to each other: who is at one does not hear who is at
    another.
    """
    servers = {info.get("server_id", url): info for url, info in greetings.items()}
    names = {info.get("cluster") for info in servers.values()}
    if len(servers) > 1 and (len(names) > 1 or None in names):
        words = [f"{url}: {info.get('cluster') or 'no cluster'}" for url, info in greetings.items()]
        yield fault(
            "servers",
            f"are not one cluster ({', '.join(words)})",
            "give all the same cluster name and routes",
        )
    for url, info in greetings.items():
        name = info.get("cluster")
        kind = "JetStream" if info.get("jetstream") else "no JetStream"
        place = f"cluster {name}" if name else "alone"
        yield ok(
            url, f"nats-server {info.get('version')}, {place}, {kind}, {info.get('max_payload'):,} bytes"
        )


def _streams(site: Site, greetings: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    groups = (site.peers.page("/pipeline-groups?limit=1000") or {}).get("pipeline_groups", [])
    exact = [group["name"] for group in groups if group["delivery"] == "exactly_once"]
    for url, info in greetings.items():
        if exact and version(str(info.get("version", "0"))) < TRANSACTIONS:
            yield fault(
                url,
                f"is nats-server {info.get('version')}, and group {exact[0]} delivers exactly once",
                "2.12 or later can store several messages or none: upgrade it",
            )


def version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; what says nothing that can be read is the oldest."""
    parts = text.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else (0, 0)
