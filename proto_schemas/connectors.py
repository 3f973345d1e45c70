"""The types of connectors and their parameters: what a coordinator checks before it replicates a registered
connector, and what a worker takes.

A value may be `env:NAME` or `file:PATH`, read on the worker that runs the pipeline; such a reference is no
secret itself. Secrets are not allowed inside URLs, where nobody could tell them from the rest.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_PARAM: Final = 8 * 1024
"""Characters of one value; a credentials file goes by its path."""
MAX_SERVERS: Final = 64
CONNECTOR_NAME: Final = r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z"
"""What a program can name."""
_NAME: Final = re.compile(CONNECTOR_NAME)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. `kind`: `text`, `texts` (one, comma-separated, or a list), `seconds`, `integer` or
    `boolean`. `choices`: the only values, where there are such; `required`: it cannot be left out."""

    kind: str = "text"
    secret: bool = False
    choices: tuple[str, ...] = ()
    required: bool = False


TYPES: Final[Mapping[str, Mapping[str, Param]]] = {
    "nats": {
        "servers": Param("texts"),
        "url": Param("texts"),
        "server": Param("texts"),
        "queue_group": Param(),
        "user": Param(),
        "password": Param(secret=True),
        "token": Param(secret=True),
        "creds": Param(),
        "nkey_seed": Param(secret=True),
        "tls_ca": Param(),
        "tls_cert": Param(),
        "tls_key": Param(),
        "tls_hostname": Param(),
        "name": Param(),
        "connect_timeout": Param("seconds"),
        "ping_interval": Param("seconds"),
    },
    "file": {"sync": Param(choices=("always", "interval", "never"))},
    "console": {},
    "memory": {},
}


_FORMAT: Final = Param(choices=("nested", "flat"))
_TOPIC: Final = Param(required=True)
WAYS: Final[Mapping[str, Mapping[str, Mapping[str, Param]]]] = {
    "nats": {
        "from": {"topic": _TOPIC, "queue_group": Param(), "stream": Param(), "durable": Param()},
        "to": {"topic": Param(), "format": _FORMAT},
    },
    "file": {
        "from": {"path": _TOPIC, "follow": Param("boolean")},
        "to": {"path": _TOPIC, "format": _FORMAT},
    },
    "console": {"to": {}},
    "memory": {"from": {"topic": _TOPIC}, "to": {"topic": Param()}},
}
"""What `.from(connector, ...)` and `.to(connector, ...)` take, by type; no `from`: it brings no events."""


def check_way(connector_type: str, way: str, params: Mapping[str, Any]) -> None:
    """Refuse a source (`way`: from) or sink (`to`) that no worker would open.

    Raises:
        ValueError: what is wrong and what would be right.
    """
    if connector_type not in WAYS:
        return
    known = WAYS[connector_type].get(way)
    if known is None:
        raise ValueError(f"{connector_type} brings no events: use one of {', '.join(_brings())} as a source")
    for key, value in params.items():
        if key not in known:
            raise ValueError(f".{way} has no parameter {key[:80]!r} here: {_hint(key, known)}")
        if known[key].kind == "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"{key}: true or false")
        elif not isinstance(value, str) or not value:
            raise ValueError(f"{key}: give text, not empty")
        elif known[key].choices and value not in known[key].choices:
            raise ValueError(f"{key}: give {' or '.join(known[key].choices)}")
    for key, param in known.items():
        if param.required and key not in params:
            raise ValueError(f".{way} needs {key}: write {key}: ...")
    if ("stream" in params) != ("durable" in params):
        raise ValueError("stream and durable go together")
    if "durable" in params and "queue_group" in params:
        raise ValueError(
            "a durable source has no queue_group: those who name the same durable share its events"
        )


def _brings() -> list[str]:
    return sorted(name for name, ways in WAYS.items() if "from" in ways)


def check_connector(name: str, connector_type: str, params: Mapping[str, Any]) -> None:
    """Refuse what no worker would take.

    Raises:
        ValueError: with the path of what is wrong and what would be right; it holds no value of a secret.
    """
    if not _NAME.match(name):
        raise ValueError(
            f"$.name: {name[:80]!r} cannot be named in a program: use a letter, then letters, "
            "digits or '_', 64 at most"
        )
    known = TYPES.get(connector_type)
    if known is None:
        raise ValueError(
            f"$.connector_type: {connector_type[:80]!r} is unknown: {_hint(connector_type, TYPES)}"
        )
    for key, value in params.items():
        if key not in known:
            raise ValueError(
                f"$.params.{key[:80]}: {connector_type} has no such parameter: {_hint(key, known)}"
            )
        _check_value(key, known[key], value)


_URLS: Final = ("servers", "server", "url")


def is_reference(value: Any) -> bool:
    """Whether a value says where the worker is to read it."""
    return isinstance(value, str) and value.startswith(("env:", "file:"))


def secret_names(connector_type: str, params: Mapping[str, Any]) -> list[str]:
    """The given parameters whose values are secrets; a reference is none."""
    known = TYPES.get(connector_type, {})
    return [
        key for key, value in params.items() if key in known and known[key].secret and not is_reference(value)
    ]


def written_secrets(connector_type: str, params: Mapping[str, Any]) -> list[str]:
    """The parameters of a connector that is declared in a program, in which a secret is written out."""
    urls = [key for key in _URLS if not is_reference(params.get(key)) and "@" in str(params.get(key))]
    return [*secret_names(connector_type, params), *urls]


def _check_value(key: str, param: Param, value: Any) -> None:
    path = f"$.params.{key}"
    if param.kind == "seconds" and not is_reference(value):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.05 <= value <= 60:
            raise ValueError(f"{path}: give a number of seconds from 0.05 to 60")
        return
    if param.kind == "integer" and not is_reference(value):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{path}: give a whole number")
        return
    if param.choices and value not in param.choices:
        raise ValueError(f"{path}: give {', '.join(param.choices)}")
    texts = value if param.kind == "texts" and isinstance(value, list) else [value]
    if not texts or len(texts) > MAX_SERVERS or not all(isinstance(text, str) and text for text in texts):
        what = f"text, or a list of 1 to {MAX_SERVERS} texts" if param.kind == "texts" else "text"
        raise ValueError(f"{path}: give {what}, not empty")
    if any(len(text) > MAX_PARAM for text in texts):
        raise ValueError(f"{path}: longer than {MAX_PARAM} characters: give file:PATH")
    if param.kind == "texts" and any("@" in text for text in texts):
        raise ValueError(f"{path}: no user or password inside a URL: give user and password, or token")


def _hint(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"
