"""What serves the operation of processes, and what tells about them."""

from typing import Final

from cli.catalog.kinds import Argument, Command, Option
from cli.settings import NATS_KEYS

COMMANDS: Final = (
    Command(
        "probe",
        "ask a process whether it is ready; exit code 1 when it is not, or does not answer",
        "cli.commands.deployment:probe",
        ("client.tls_ca", "client.tls_cert", "client.tls_key"),
        (
            Argument(
                "url",
                "what to ask; default: /readyz of the coordinator or worker whose settings these are",
                optional=True,
            ),
        ),
        (
            Option("--live", "only whether it lives: /livez", bool, False),
            Option("--within", "seconds for an answer", float, 3.0),
        ),
        shows=False,
        example="varpulis probe http://127.0.0.1:9100/readyz",
    ),
    Command(
        "checkpoints prepare",
        "make the bucket of checkpoints in JetStream, where workers may not; one that is there stays",
        "cli.commands.deployment:prepare",
        NATS_KEYS,
        options=(
            Option("--replicas", "of the bucket: 1, 3 or 5", int, 1),
            Option("--max-bytes", "of the bucket; 0: as many as the account allows", int, 0),
            Option("--within", "seconds to go on trying", float, 60.0),
        ),
        example="VARPULIS_NATS_USER=operator varpulis checkpoints prepare --replicas 3",
    ),
    Command(
        "config show", "every setting, its value and where that came from", "cli.commands.about:config_show"
    ),
    Command(
        "schema",
        "the AsyncAPI document of all NATS messages",
        "cli.commands.about:schema",
        outputs=("json", "yaml"),
    ),
    Command("version", "versions of varpulis and of what it stands on", "cli.commands.about:version"),
)
