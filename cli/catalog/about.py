"""What serves the operation of processes, and what tells about them."""

from typing import Final

from cli.catalog.kinds import Argument, Command, Option
from cli.settings import CLIENT_KEYS, NATS_KEYS

COMMANDS: Final = (
    Command(
        "doctor",
        "examine this machine and the cluster that the settings name; exit code 1 when there is a fault",
        "cli.commands.doctor:doctor",
        (*CLIENT_KEYS, "nats.url", "cluster.id", "cluster.key_file"),
        (
            Argument(
                "checks",
                "only these: configuration, ids, journals, nats, ...; default: all",
                many=True,
                words="checks",
            ),
        ),
        (Option("--within", "seconds for all checks together", float, 30.0),),
        example="varpulis doctor --url https://coordinator-0:9100",
        lenient=True,
    ),
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
    *(
        Command(
            f"completion {shell}",
            f"a script that completes command lines in {shell}",
            f"cli.commands.completion:{shell}",
            shows=False,
            example=example,
        )
        for shell, example in (
            ("bash", 'eval "$(varpulis completion bash)"'),
            ("zsh", "varpulis completion zsh > ~/.zfunc/_varpulis"),
            ("fish", "varpulis completion fish > ~/.config/fish/completions/varpulis.fish"),
        )
    ),
    Command(
        "completion words",
        "the words of a kind that the cluster knows now, one a line, or nothing; asked by those scripts",
        "cli.commands.completion:words",
        CLIENT_KEYS,
        (Argument("kind", "groups, pipelines, workers, connectors, ..."),),
        shows=False,
        hidden=True,
        lenient=True,
    ),
    Command(
        "config show",
        "every setting, its value and where that came from",
        "cli.commands.about:config_show",
        ("client.context",),
    ),
    Command(
        "schema",
        "the AsyncAPI document of all NATS messages",
        "cli.commands.about:schema",
        outputs=("json", "yaml"),
    ),
    Command("version", "versions of varpulis and of what it stands on", "cli.commands.about:version"),
)
