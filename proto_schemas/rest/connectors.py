"""Connectors that are registered with the cluster."""

from typing import Annotated, Any

import msgspec

from proto_schemas.messages.base import Message
from proto_schemas.rest.base import Pagination, View


class ConnectorSpec(Message, frozen=True, kw_only=True):
    """`POST /connectors`, `PUT /connectors/{name}`: a connector that programs may name without declaring it.
    With PUT, a secret given as `***` stays as it is."""

    name: str
    connector_type: str
    params: dict[str, Any] = {}
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""

    def __repr__(self) -> str:
        return f"ConnectorSpec(name={self.name!r}, connector_type={self.connector_type!r}, params=***)"


class ConnectorView(View, frozen=True, kw_only=True):
    """`GET /connectors/{name}`; secrets are shown as `***`. `used_by`: pipelines, as `group/pipeline`."""

    name: str
    connector_type: str
    params: dict[str, Any]
    description: str
    version: int
    created_at: int
    updated_at: int
    used_by: list[str]


class ConnectorList(View, frozen=True, kw_only=True):
    """`GET /connectors`."""

    connectors: list[ConnectorView]
    total: int
    pagination: Pagination
