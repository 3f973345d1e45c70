"""Secrets of connectors: sealed before they are replicated, unsealed where they are used, shown nowhere.

A sealed value takes the place of the plain one in the params: `{"$sealed": "1.<key id>.<base64url>"}`, the
last part being nonce and ChaCha20-Poly1305 ciphertext of the value as JSON (so numbers and tables can be
sealed too), under a key derived from the cluster key. What it belongs to (`about` and the name of the
parameter) is authenticated with it: a sealed value that was copied to another connector, or to another
parameter, does not open.

Rotation: what was sealed under any accepted key opens; what is sealed is sealed under the signing key.
`reseal` brings params to the signing key and `key_ids` tells what is still needed; once no params name an old
key it can be removed from the file.

Pure but for the random nonces. No text of an error here holds a value.
"""

import base64
import binascii
import secrets
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from transport.keyring import KeyRing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

REDACTED: Final = "***"
"""What every view shows in place of a secret."""
_MARK: Final = "$sealed"
_VERSION: Final = "1"
_PURPOSE: Final = "seal/1"
_NONCE: Final = 12


class SealError(ValueError):
    """A value that cannot be sealed or opened; the text names the parameter, the cause and the remedy."""


class Sealer:
    """Seals and opens under the keys of a ring.

    Args:
        ring: None where there is no cluster key: then sealing is refused, with the remedy, unless there is
            nothing secret.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring

    def seal(self, params: Mapping[str, Any], secret_names: Collection[str], *, about: str) -> dict[str, Any]:
        """The params with every one of `secret_names` sealed; what is sealed already stays.

        Args:
            about: what they belong to, such as `connector/orders`; needed again to open them.

        Raises:
            SealError: there is something to seal and no cluster key; or a value is no JSON.
        """
        return {
            name: self._close(name, value, about) if name in secret_names and not is_sealed(value) else value
            for name, value in params.items()
        }

    def unseal(self, params: Mapping[str, Any], *, about: str) -> dict[str, Any]:
        """The params with every sealed one opened; for a worker, never for a view.

        Raises:
            SealError: sealed under a key that is not accepted here, damaged, or not of `about`.
        """
        return {
            name: self._open(name, value, about) if is_sealed(value) else value
            for name, value in params.items()
        }

    def reseal(self, params: Mapping[str, Any], *, about: str) -> dict[str, Any]:
        """The params with what is sealed under another key sealed under the signing one.

        Raises:
            SealError: as `unseal`.
        """
        current = self._ring.signing.id if self._ring is not None else None
        return {
            name: self._close(name, self._open(name, value, about), about)
            if is_sealed(value) and _key_id(value) != current
            else value
            for name, value in params.items()
        }

    def needs_reseal(self, params: Mapping[str, Any]) -> bool:
        """Whether `reseal` would change anything."""
        return self._ring is not None and bool(key_ids(params) - {self._ring.signing.id})

    def _close(self, name: str, value: Any, about: str) -> dict[str, str]:
        if self._ring is None:
            raise SealError(
                f"{name} is a secret and there is no cluster key to seal it with: start the coordinators "
                "with --cluster-key-file (`varpulis key new FILE --cluster` makes one)"
            )
        key = self._ring.signing
        try:
            plain = orjson.dumps(value)
        except TypeError:
            raise SealError(f"{name} is no JSON value: give text, a number, a list or a table") from None
        nonce = secrets.token_bytes(_NONCE)
        box = nonce + _cipher(key.derive(_PURPOSE)).encrypt(nonce, plain, _bound_to(about, name))
        text = base64.urlsafe_b64encode(box).decode()
        return {_MARK: f"{_VERSION}.{key.id}.{text}"}

    def _open(self, name: str, value: Any, about: str) -> Any:
        from cryptography.exceptions import InvalidTag  # only those who open pay for it

        version, _, rest = value[_MARK].partition(".")
        key_id, _, text = rest.partition(".")
        key = self._ring.by_id(key_id) if self._ring is not None else None
        if version != _VERSION:
            raise SealError(f"{name} was sealed by another version: run that one, or set {name} anew")
        if key is None:
            raise SealError(
                f"{name} is sealed under key {key_id[:32]!r}, which is not in the cluster key file here: add "
                f"that key as a further line, or set {name} anew"
            )
        try:
            box = base64.urlsafe_b64decode(text)
            plain = _cipher(key.derive(_PURPOSE)).decrypt(box[:_NONCE], box[_NONCE:], _bound_to(about, name))
        except (binascii.Error, InvalidTag, ValueError):
            raise SealError(
                f"{name} does not open under key {key_id!r}: it is damaged, or belongs to something "
                f"other than {about}: set {name} anew"
            ) from None
        return orjson.loads(plain)


def is_sealed(value: Any) -> bool:
    """Whether a value is a sealed one."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_MARK), str)


def redact(params: Mapping[str, Any], secret_names: Collection[str] = ()) -> dict[str, Any]:
    """The params as anybody may see them: `***` for what is sealed and for every one of `secret_names`."""
    return {
        name: REDACTED if name in secret_names or is_sealed(value) else value
        for name, value in params.items()
    }


def restore_redacted(params: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The params of an update, `***` replaced by the sealed value it stands for in the `known` ones: who read
    a view and writes it back changes no secret.

    Raises:
        SealError: it stands for nothing.
    """
    restored: dict[str, Any] = {}
    for name, value in params.items():
        if value != REDACTED:
            restored[name] = value
        elif is_sealed(known.get(name)):
            restored[name] = known[name]
        else:
            raise SealError(f"{name} is {REDACTED}, which stands for no secret here: give the value itself")
    return restored


def key_ids(params: Mapping[str, Any]) -> set[str]:
    """The ids of the cluster keys that are needed to open these params."""
    return {_key_id(value) for value in params.values() if is_sealed(value)}


def _key_id(value: Any) -> str:
    return str(value[_MARK]).split(".", 2)[1] if value[_MARK].count(".") >= 2 else ""


def _bound_to(about: str, name: str) -> bytes:
    return orjson.dumps([about, name])


def _cipher(key: bytes) -> "ChaCha20Poly1305":
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)
