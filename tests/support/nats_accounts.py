"""An operator with one account, for nats-servers that admit by JWT: what `nsc` would make, made here.

A server trusts the operator's JWT, which signs the account's, which signs those of users; a user proves that
it holds the seed its JWT names. The form is that of nats-io/jwt v2: the signature covers `header.claims`.
"""

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]


class Operator:
    """Signs for one account; `server_config` is what makes a nats-server trust it."""

    def __init__(self) -> None:
        self._operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _pair(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def server_config(self) -> str:
        own = _signed(self._operator, _public(self._operator), {"type": "operator"})
        account, limits = _public(self._account), ("subs", "data", "payload", "imports", "exports", "conn")
        claims = {"type": "account", "limits": dict.fromkeys((*limits, "leaf"), -1) | {"wildcards": True}}
        signed = _signed(self._operator, account, claims)
        return f"operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {account}: {signed} }}\n"

    def user(self, file: Path) -> str:
        """Write a new user's credentials into `file`; the seed in it."""
        user = _pair(nkeys.PREFIX_BYTE_USER)
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        token = _signed(self._account, _public(user), {"type": "user", "pub": {}, "sub": {}, **limits})
        seed = bytes(user.seed).decode()
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
        return seed


def user_seed() -> tuple[str, str]:
    """A new user's seed and public key, for servers that know users by their keys."""
    user = _pair(nkeys.PREFIX_BYTE_USER)
    return bytes(user.seed).decode(), _public(user)


def _pair(kind: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(secrets.token_bytes(32), kind)))


def _public(pair: Any) -> str:
    return str(pair.public_key.decode())


def _signed(by: Any, subject: str, nats: dict[str, Any]) -> str:
    claims = {
        "jti": secrets.token_hex(16),
        "iat": int(time.time()),
        "iss": _public(by),
        "name": "test",
        "sub": subject,
        "nats": {"version": 2, **nats},
    }
    parts = (_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
    text = ".".join(parts)
    return f"{text}.{_base64(by.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
