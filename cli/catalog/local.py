"""Clusters on this machine, and drills."""

from typing import Final

from cli.catalog.kinds import YES, Argument, Command, Option

_UP_KEYS: Final = (
    "up.data_dir",
    "up.coordinators",
    "up.workers",
    "up.http_port",
    "up.nats_port",
    "up.nats_server",
    "up.require_keys",
    "up.demo",
    "up.ready_timeout",
)

COMMANDS: Final = (
    Command(
        "up",
        "start a cluster on this machine, or complete one that lost processes",
        "cli.commands.local:up",
        _UP_KEYS,
        options=(Option("--detach", "return once all is ready; `varpulis down` stops it", bool, False),),
        example="varpulis up --detach",
    ),
    Command("down", "stop the cluster of a data directory", "cli.commands.local:down", ("up.data_dir",)),
    Command("drill list", "the failover drills and what each does", "cli.commands.drills:listing"),
    Command(
        "drill run",
        "do a failover drill, on a cluster of its own or one that runs, and hold it to its objectives",
        "cli.commands.drills:run",
        (
            "up.nats_server",
            "client.timeout",
            "client.api_key_file",
            "client.tls_ca",
            "client.tls_cert",
            "client.tls_key",
        ),
        arguments=(Argument("name", "which drill, or `all`", words="drills"),),
        options=(
            Option("--rounds", "how often each fault is injected", int, 3),
            Option("--against", "`local`, or the URL of a cluster, which will feel it", str, "local"),
            YES,
            Option("--previous", "a checkout of the release before, for rolling-upgrade", words="files"),
        ),
        outputs=("table", "json", "yaml", "html"),
        example="varpulis drill run all -o html > drills.html",
    ),
)
