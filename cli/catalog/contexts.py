"""Clusters by name."""

from typing import Final

from cli.catalog.kinds import Argument, Command, Option

_NAME: Final = Argument("name", "name of the context", words="contexts")
_VALUES: Final = (
    "client.url",
    "client.api_key_file",
    "client.tls_ca",
    "client.tls_cert",
    "client.tls_key",
    "client.timeout",
)

COMMANDS: Final = (
    Command("context list", "the contexts, and which one is in use", "cli.commands.contexts:list_all"),
    Command(
        "context show",
        "one context; default: the one that commands would take now",
        "cli.commands.contexts:show",
        ("client.context",),
        (Argument("name", "name of the context", optional=True, words="contexts"),),
    ),
    Command(
        "context set",
        "make a context, or change what is given of one; an empty value takes it out",
        "cli.commands.contexts:set_values",
        _VALUES,
        (_NAME,),
        example="varpulis context set production --url https://coordinator-0:9100 --api-key-file prod.key",
    ),
    Command(
        "context use",
        "take a context wherever nothing else is said, from now on; --none: none any more",
        "cli.commands.contexts:use",
        arguments=(Argument("name", "name of the context", optional=True, words="contexts"),),
        options=(Option("--none", "none is in use any more", bool, False),),
        example="varpulis context use production",
    ),
    Command(
        "context delete",
        "forget a context; the files that it names stay",
        "cli.commands.contexts:delete",
        arguments=(_NAME,),
    ),
)
