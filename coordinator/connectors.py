"""Registered connectors between API, state and workers: checked on the way in, sealed while they lie in the
log and in snapshots, shown without secrets, opened only into the deploy that needs them.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from coordinator.security.sealing import Sealer, redact
from coordinator.state.model import Connector, State
from proto_schemas.connectors import check_connector, is_reference, secret_names
from proto_schemas.messages import ConnectorParams
from transport.config import NatsConfig
from transport.errors import ConfigError

MAX_PARAMS: Final = 64 * 1024
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
