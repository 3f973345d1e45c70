"""Every command of `varpulis`, in tables; the parser, `--help` and `docs/cli.md` come from them.

What a command does stands in the function that `run` names, imported only when it is called: so `varpulis
version` loads no HTTP client, and a worker no terminal tables.
"""

from typing import Final

from cli.catalog import about, cluster, connectors, contexts, groups, keys, local, nodes, programs, raft
from cli.catalog.kinds import Argument, Command, Option

COMMANDS: Final[tuple[Command, ...]] = (
    *local.COMMANDS,
    *nodes.COMMANDS,  # before those of `cluster`, of which some lie below `worker`
    *cluster.COMMANDS,
    *groups.COMMANDS,
    *connectors.COMMANDS,
    *programs.COMMANDS,
    *keys.COMMANDS,
    *contexts.COMMANDS,
    *raft.COMMANDS,
    *about.COMMANDS,
)

__all__ = ["COMMANDS", "Argument", "Command", "Option"]
