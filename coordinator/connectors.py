"""Registered connectors between API, state and workers: checked on the way in, sealed while they lie in the
log and in snapshots, shown without secrets, opened only into the deploy that needs them.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.security.sealing import Sealer, redact
from coordinator.state.commands import ResealConnector
from coordinator.state.model import State
from coordinator.state.records import Connector
from proto_schemas.connectors import check_connector, is_reference, secret_names
from proto_schemas.errors import WireError
from proto_schemas.messages.deploys import ConnectorParams
from transport.config import NatsConfig
from transport.errors import ConfigError

RESEAL_EVERY: Final = 5.0
MAX_PARAMS: Final = 64 * 1024
_log = logging.getLogger(__name__)
_SERVER_KEYS: Final = ("servers", "url", "server")
_NOT_NATS: Final = (*_SERVER_KEYS, "queue_group", "name")


def about(name: str) -> str:
    """What a sealed value belongs to."""
    return f"connector/{name}"


def check(name: str, connector_type: str, params: Mapping[str, Any]) -> None:
    """Refuse what no worker would take, and what contradicts itself.

    Raises:
        ValueError: with the path of what is wrong and what would be right; no value of a secret.
    """
    check_connector(name, connector_type, params)
    if sum(len(str(value)) for value in params.values()) > MAX_PARAMS:
        raise ValueError(f"$.params: longer than {MAX_PARAMS} characters together: give file:PATH")
    if connector_type == "nats":
        _check_nats(params)


def _check_nats(params: Mapping[str, Any]) -> None:
    given = [key for key in _SERVER_KEYS if key in params]
    if len(given) > 1:
        raise ValueError(f"$.params: {' and '.join(given)} contradict each other: give servers")
    settings = {
        key: "given" if is_reference(value) else value
        for key, value in params.items()
        if key not in _NOT_NATS and not (key.endswith(("_timeout", "_interval")) and is_reference(value))
    }
    servers = params[given[0]] if given else None
    if servers is not None and not any(
        map(is_reference, servers if isinstance(servers, list) else [servers])
    ):
        settings["servers"] = servers
    try:
        NatsConfig.from_params(settings)
    except ConfigError as error:
        raise ValueError(f"$.params: {error}") from None


def shown(connector: Connector) -> dict[str, Any]:
    """The params for anybody to see."""
    return redact(connector.params, secret_names(connector.connector_type, connector.params))


def to_reseal(state: State, sealer: Sealer) -> Iterator[ResealConnector]:
    """What brings every connector to the signing key, so that older keys can be removed.

    Raises:
        ValueError: one does not open here.
    """
    for connector in state.connectors.values():
        if sealer.needs_reseal(connector.params):
            params = sealer.reseal(connector.params, about=about(connector.name))
            yield ResealConnector(by="sealing", name=connector.name, version=connector.version, params=params)


async def keep_sealed(ledger: Ledger, sealer: Sealer, leads: Callable[[], bool]) -> None:
    """Reseal what needs it while this node leads, until cancelled."""
    while True:
        await asyncio.sleep(RESEAL_EVERY)
        if not leads():
            continue
        try:
            for command in list(to_reseal(ledger.state, sealer)):
                await ledger.propose(command)
        except (ValueError, WireError) as error:
            _log.warning("%s", line("not_resealed", reason=error))


def for_worker(state: State, names: Collection[str], sealer: Sealer) -> list[ConnectorParams]:
    """What a worker needs of the connectors that a program names.

    Raises:
        ValueError: one is not registered, or does not open; with cause and remedy.
    """
    found = []
    for name in names:
        connector = state.connectors.get(name)
        if connector is None:
            raise ValueError(f"connector {name!r} is not registered: register it, or declare it")
        params = sealer.unseal(connector.params, about=about(name))
        found.append(ConnectorParams(name=name, connector_type=connector.connector_type, params=params))
    return found
