"""Registered connectors."""

from typing import Final

from cli.catalog.kinds import WIDE, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_CONNECTOR: Final = Argument("name", "name of the connector, as programs write it", words="connectors")
_TYPE: Final = Argument("type", "nats, memory or console", words=("nats", "memory", "console"))
_PARAMS: Final = Argument(
    "params",
    "name=value: a number, JSON, else text; env:NAME and file:PATH are read by the worker",
    many=True,
)
_CONNECTOR_OPTIONS: Final = (
    Option(
        "--params-file",
        "JSON object of further parameters, for what is secret; - reads standard input",
        words="files",
    ),
    Option("--description", "what it is for"),
)

COMMANDS: Final = (
    Command(
        "connector list",
        "the registered connectors",
        "cli.commands.connectors:list_all",
        CLIENT_KEYS,
        outputs=WIDE,
        watch=True,
    ),
    Command(
        "connector show",
        "one registered connector, its secrets hidden, and who uses it",
        "cli.commands.connectors:show",
        CLIENT_KEYS,
        (_CONNECTOR,),
    ),
    Command(
        "connector create",
        "register a connector that programs may name without declaring it",
        "cli.commands.connectors:create",
        CLIENT_KEYS,
        (_CONNECTOR, _TYPE, _PARAMS),
        _CONNECTOR_OPTIONS,
        example="varpulis connector create Bus nats servers=nats://10.0.0.1:4222 token=env:BUS_TOKEN",
    ),
    Command(
        "connector update",
        "change parameters of a connector; those not named stay, pipelines get them with their next deploy",
        "cli.commands.connectors:update",
        CLIENT_KEYS,
        (_CONNECTOR, _PARAMS),
        (*_CONNECTOR_OPTIONS, Option("--remove", "parameters to take out, comma-separated")),
        example="varpulis connector update Bus servers=nats://10.0.0.2:4222",
    ),
    Command(
        "connector delete",
        "forget a connector that no deployed program names",
        "cli.commands.connectors:delete",
        CLIENT_KEYS,
        (_CONNECTOR,),
    ),
)
