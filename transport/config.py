"""How to reach NATS: one frozen object, checked when it is made.

A value may be `env:NAME` or `file:PATH`, so a secret need not stand in a program or on a command line. User
and password inside a URL are moved out of it at once: what remains in `servers` may be printed anywhere, and
no `repr` shows a secret. Contradictions are refused here, not at the third reconnect at night.
"""

import difflib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from transport.errors import ConfigError
from transport.tls import client_context

__all__ = ["DEFAULT_URL", "ConfigError", "NatsConfig"]

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
_SCHEMES: Final = ("nats", "tls")
_SECONDS: Final = ("connect_timeout", "ping_interval")
_SEED_LENGTH: Final = 58  # of an nkey user seed, "SU..."


@dataclass(frozen=True, slots=True)
class NatsConfig:
    """One NATS connection.

    Attributes:
        servers: URLs `nats://host:port` or `tls://host:port`, tried in turn; never with userinfo (see above).
        user, password: one identity; or `token`; or `creds`, the path of a credentials file (JWT and seed);
            or `nkey_seed`, a user seed (`SU...`) or the path of a file that holds one.
        tls_ca, tls_cert, tls_key: PEM files: whom we trust (default: the system's), who we are.
        tls_hostname: the name the server's certificate must carry, when it is not the URL's host.
        name: how this connection is called in the server's monitoring, and how its inboxes begin
            (`_INBOX.<name>.`), where it is 1 to 64 letters, digits, `_`, `-`.
        connect_timeout: seconds for each step of a connection attempt (TCP, greeting, TLS, login).
        ping_interval: seconds between pings; a server that froze is left after three. Shorter finds it
            sooner, and costs a packet each.
    """

    servers: tuple[str, ...] = (DEFAULT_URL,)
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: str = ""
    nkey_seed: str = field(default="", repr=False)
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_hostname: str = ""
    name: str = "varpulis"
    connect_timeout: float = 2.0
    ping_interval: float = 1.0

    def __post_init__(self) -> None:
        parts = [_parse_url(server) for server in self.servers]
        if not parts:
            raise ConfigError(f"servers is empty: give at least one, such as {DEFAULT_URL}")
        object.__setattr__(self, "servers", tuple(_without_userinfo(part) for part in parts))
        self._adopt_userinfo(parts)
        self._check_identity()
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{given} is given without {missing}: give both or neither")
        for key in _SECONDS:
            if not 0.05 <= getattr(self, key) <= 60:
                raise ConfigError(f"{key} is {getattr(self, key)}: give seconds between 0.05 and 60")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """A configuration from untyped settings (a connector's params, a TOML table, flags).

        `servers` is a list or a comma-separated string; `None` values count as absent.

        Raises:
            ConfigError: an unknown key, a wrong type, an `env:`/`file:` that is not there, a contradiction.
        """
        known = [item.name for item in fields(cls)]
        given: dict[str, Any] = {}
        for key, value in params.items():
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise ConfigError(f"unknown setting {key!r}: {hint}")
            if value is None:
                continue
            if key == "servers":
                given[key] = _servers(value)
            elif key in _SECONDS:
                given[key] = _seconds(key, value)
            else:
                given[key] = _text(key, value)
        return cls(**given)

    @property
    def wants_tls(self) -> bool:
        """TLS was asked for, so a server that does not speak it is refused, before it is told a secret."""
        tls = self.tls_ca or self.tls_cert or self.tls_hostname
        return bool(tls) or any(server.startswith("tls://") for server in self.servers)

    def ssl_context(self) -> ssl.SSLContext:
        """What a TLS handshake needs.

        Raises:
            ConfigError: a file is missing, no PEM, or encrypted, or key and certificate do not match.
        """
        return client_context(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)

    def credentials(self) -> dict[str, str]:
        """The identity as keyword arguments of nats-py's `connect`.

        Raises:
            ConfigError: the credentials or seed file is not there, or does not hold what it should.
        """
        if self.creds:
            text = _read("creds", self.creds)
            if "NATS USER JWT" not in text or "USER NKEY SEED" not in text:
                raise ConfigError(
                    f"creds {self.creds} holds no user JWT and seed: make it with `nsc generate creds`"
                )
            return {"user_credentials": self.creds}
        if self.nkey_seed:
            return {"nkeys_seed_str": self._seed()}
        if self.token:
            return {"token": self.token}
        return {"user": self.user, "password": self.password} if self.user else {}

    def _seed(self) -> str:
        literal = self.nkey_seed.startswith("SU") and len(self.nkey_seed) == _SEED_LENGTH
        seed = self.nkey_seed if literal else _read("nkey_seed", self.nkey_seed).strip()
        import nkeys  # type: ignore[import-untyped]  # only those who sign pay for it

        try:
            nkeys.from_seed(bytearray(seed.encode())).wipe()
        except Exception:
            raise ConfigError(
                "nkey_seed is no user seed: give SU... or the path of a file that holds it"
            ) from None
        return seed

    def _adopt_userinfo(self, parts: list[SplitResult]) -> None:
        found = {(unquote(part.username or ""), unquote(part.password or "")) for part in parts}
        found.discard(("", ""))
        if not found:
            return
        if len(found) > 1:
            raise ConfigError("servers carry different users in their URLs: one connection has one identity")
        if self.user or self.password or self.token or self.creds or self.nkey_seed:
            raise ConfigError(
                "a user in the server URL contradicts user, password, token, creds or nkey_seed: give one"
            )
        (user, password) = found.pop()
        if password:
            object.__setattr__(self, "user", user)
            object.__setattr__(self, "password", password)
        else:
            object.__setattr__(self, "token", user)

    def _check_identity(self) -> None:
        if bool(self.user) != bool(self.password):
            given, missing = ("user", "password") if self.user else ("password", "user")
            raise ConfigError(f"{given} is given without {missing}: give both or neither")
        ways = [way for way in ("user", "token", "creds", "nkey_seed") if getattr(self, way)]
        if len(ways) > 1:
            raise ConfigError(f"{' and '.join(ways)} contradict each other: give one identity")


def _parse_url(server: str) -> SplitResult:
    text = server.strip()
    shown = text.rpartition("@")[2]  # nothing of a userinfo, however broken the rest is
    try:
        url = urlsplit(text if "://" in text else f"nats://{text}")
        valid = bool(url.hostname) and url.path in ("", "/") and not url.query and url.port != 0
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in text):
        raise ConfigError(f"{shown!r} is no server URL: write it as {DEFAULT_URL}")
    if url.scheme not in _SCHEMES:
        raise ConfigError(f"{shown!r}: unknown scheme {url.scheme!r}: use nats:// or tls://")
    return url


def _without_userinfo(url: SplitResult) -> str:
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{url.port or 4222}"


def _servers(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = [_text("servers", item) for item in items]
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _seconds(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(_text(key, value) if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise ConfigError(f"{key} is {value!r}: give a number of seconds") from None


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} is a {type(value).__name__}: give text")
    source, _, rest = value.partition(":")
    if source == "env":
        if rest not in os.environ:
            raise ConfigError(f"{key}: environment variable {rest} is not set: set it, or give the value")
        return os.environ[rest]
    if source == "file":
        return _read(key, rest).strip()
    return value


def _read(key: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot read {path}: {error}: give a readable text file") from None
