"""`/connectors`: registered once, named by any program. Checked and sealed here, before the log sees them."""

from litestar import delete, get, post, put
from litestar.params import FromPath

from coordinator import connectors
from coordinator.api.context import (
    AnyRequest,
    Context,
    Given,
    Limit,
    Offset,
    not_found,
    page,
    read_body,
    request_id,
)
from coordinator.api.programs import QUEUE_GROUP, sharers_by_key
from coordinator.security.sealing import REDACTED, SealError
from coordinator.state.commands import DeleteConnector, SaveConnector
from coordinator.state.model import State
from coordinator.state.records import Connector
from proto_schemas.connectors import secret_names
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.base import Deleted
from proto_schemas.rest.connectors import ConnectorList, ConnectorSpec, ConnectorView


@post("/connectors", opt={"body": ConnectorSpec})
async def create_connector(request: AnyRequest, context: Given) -> ConnectorView:
    """Register a connector; 409 when there is one of that name."""
    spec = await read_body(request, ConnectorSpec)
    return await _save(request, context, spec, new=True)


@put("/connectors/{name:str}", opt={"body": ConnectorSpec})
async def change_connector(request: AnyRequest, context: Given, name: FromPath[str]) -> ConnectorView:
    """Change a connector: what is deployed from then on has it; what runs keeps what it was deployed with."""
    spec = await read_body(request, ConnectorSpec)
    if spec.name != name:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"ConnectorSpec: $.name: {spec.name[:80]!r} is not {name[:80]!r} of the path: a name stays",
        )
    return await _save(request, context, spec, new=False)


@get("/connectors")
async def list_connectors(context: Given, limit: Limit = 50, offset: Offset = 0) -> ConnectorList:
    """All connectors, by name."""
    state = context.ledger.state
    names, pagination = page(sorted(state.connectors), limit, offset)
    views = [_view(state, state.connectors[name]) for name in names]
    return ConnectorList(connectors=views, total=pagination.total, pagination=pagination)


@get("/connectors/{name:str}")
async def get_connector(context: Given, name: FromPath[str]) -> ConnectorView:
    """One connector."""
    connector = context.ledger.state.connectors.get(name)
    if connector is None:
        raise not_found("connector", name, "/connectors")
    return _view(context.ledger.state, connector)


@delete("/connectors/{name:str}", status_code=200)
async def delete_connector(request: AnyRequest, context: Given, name: FromPath[str]) -> Deleted:
    """Forget a connector; 409 while a deployed program names it."""
    await context.ledger.propose(DeleteConnector(by="api", request_id=request_id(request), name=name))
    if name in context.ledger.state.connectors:
        raise WireError(
            ErrorCode.CONFLICT,
            f"this Idempotency-Key deleted an earlier connector {name!r}: use a new key for this one",
        )
    return Deleted(deleted=True)


async def _save(request: AnyRequest, context: Context, spec: ConnectorSpec, *, new: bool) -> ConnectorView:
    kept = [] if new else [key for key, value in spec.params.items() if value == REDACTED]
    params = {key: value for key, value in spec.params.items() if key not in kept}
    try:
        connectors.check(spec.name, spec.connector_type, spec.params)
        if not_secret := sorted(set(kept) - set(secret_names(spec.connector_type, spec.params))):
            raise ValueError(f"$.params.{not_secret[0]}: it is no secret that could be kept: give the value")
        secret = secret_names(spec.connector_type, params)
        sealed = context.sealer.seal(params, secret, about=connectors.about(spec.name))
    except SealError as error:
        text = f"$.params.{error}; or give env:NAME or file:PATH, which the worker reads"
        raise WireError(ErrorCode.BAD_REQUEST, f"ConnectorSpec: {text}") from None
    except ValueError as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"ConnectorSpec: {error}") from None
    if QUEUE_GROUP in spec.params and not new:
        await _refuse_for_keys(context.ledger.state, spec.name)
    await context.ledger.propose(
        SaveConnector(
            by="api",
            request_id=request_id(request),
            name=spec.name,
            connector_type=spec.connector_type,
            params=sealed,
            description=spec.description,
            new=new,
            sealed=secret,
            kept=kept,
        )
    )
    connector = context.ledger.state.connectors.get(spec.name)
    if connector is None:
        raise WireError(
            ErrorCode.CONFLICT,
            f"connector {spec.name!r} was saved by this request and is deleted since: "
            "register it again with a new Idempotency-Key",
        )
    return _view(context.ledger.state, connector)


async def _refuse_for_keys(state: State, name: str) -> None:
    """A queue group gives an event to one instance, whether or not it owns the key: as deploys say."""
    sharers = await sharers_by_key(list(state.groups.values()), name)
    if sharers:
        named = f"{', '.join(sharers[:5])}{' and others' * (len(sharers) > 5)}"
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"ConnectorSpec: $.params.queue_group: {named} "
            f"read from {name} and share it by partition_key, and a queue_group would give most events to an "
            "instance that must not keep them: leave it out, or register a connector of another name",
        )


def _view(state: State, connector: Connector) -> ConnectorView:
    return ConnectorView(
        name=connector.name,
        connector_type=connector.connector_type,
        params=connectors.shown(connector),
        description=connector.description,
        version=connector.version,
        created_at=connector.created_at,
        updated_at=connector.updated_at,
        used_by=state.users_of(connector.name),
    )


HANDLERS = [create_connector, change_connector, list_connectors, get_connector, delete_connector]
