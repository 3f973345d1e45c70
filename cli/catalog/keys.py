"""API keys."""

from typing import Final

from cli.catalog.kinds import WIDE, Argument, Command, Option
from cli.settings import CLIENT_KEYS

_KEY: Final = Argument("id", "id of the key, its middle part", words="keys")
_ROLE: Final = Argument(
    "role", "worker, viewer, operator or admin", words=("worker", "viewer", "operator", "admin")
)
_TO: Final = Option("--to", "write the key into this new file instead of showing it", words="files")

COMMANDS: Final = (
    Command(
        "key new",
        "make a file with a fresh API key, or a cluster key; needs no cluster",
        "cli.commands.keys:new",
        arguments=(Argument("file", "where to; only you can read it", words="files"),),
        options=(Option("--cluster", "a cluster key instead of an API key", bool, False),),
        example="varpulis key new admin.key",
    ),
    Command(
        "key create",
        "make an API key; it is shown once, or goes to a file",
        "cli.commands.keys:create",
        CLIENT_KEYS,
        (_ROLE,),
        (
            Option("--worker", "for role worker: the id it counts for, or a prefix such as 'edge-*'"),
            Option("--note", "what it is for, shown in listings"),
            Option("--expires-in", "seconds until it counts no longer; 0: never", float, 0.0),
            _TO,
        ),
        example="varpulis key create operator --note 'deploy job' --to deploy.key",
    ),
    Command(
        "key list",
        "the API keys, without their secrets",
        "cli.commands.keys:list_keys",
        CLIENT_KEYS,
        outputs=WIDE,
        watch=True,
    ),
    Command(
        "key revoke",
        "end an API key at once",
        "cli.commands.keys:revoke",
        CLIENT_KEYS,
        (_KEY,),
        (Option("--force", "also the last key of an admin", bool, False),),
    ),
    Command(
        "key rotate",
        "make an API key in place of another, which goes on counting for a while",
        "cli.commands.keys:rotate",
        CLIENT_KEYS,
        (_KEY,),
        (Option("--overlap", "seconds that the old key goes on counting", float, 86_400.0), _TO),
        example="varpulis key rotate 3f2a9c01d4e5 --overlap 3600 --to deploy.key.new",
    ),
    Command("key show", "one API key, without its secret", "cli.commands.keys:show", CLIENT_KEYS, (_KEY,)),
    Command(
        "whoami",
        "as whom the cluster takes us: the role of our key, and its id",
        "cli.commands.keys:whoami",
        CLIENT_KEYS,
    ),
)
