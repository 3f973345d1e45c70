"""Secrets of connectors: what is stored does not tell them, and opens only where it belongs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.security.sealing import (
    REDACTED,
    Sealer,
    SealError,
    is_sealed,
    key_ids,
    redact,
    restore_redacted,
)
from transport.keyring import KeyRing, new_key

_ABOUT = "connector/orders"
_PARAMS = {"url": "nats://a:4222", "password": "hunter2-secret", "port": 5}


def _sealer(*lines: str) -> Sealer:
    return Sealer(KeyRing(text="".join(lines or (new_key("k1"),))))


def test_sealed_params_do_not_hold_the_secret_and_open_to_what_they_were() -> None:
    sealer = _sealer()
    sealed = sealer.seal(_PARAMS, {"password", "absent"}, about=_ABOUT)
    assert "hunter2" not in json.dumps(sealed)
    assert sealed["url"] == _PARAMS["url"]
    assert is_sealed(sealed["password"])
    assert sealer.unseal(sealed, about=_ABOUT) == _PARAMS


def test_two_seals_of_one_value_differ() -> None:
    sealer = _sealer()
    one, two = (sealer.seal(_PARAMS, {"password"}, about=_ABOUT) for _ in range(2))
    assert one != two, "equal secrets must not be seen to be equal"


def test_what_is_sealed_stays_as_it_is() -> None:
    sealer = _sealer()
    once = sealer.seal(_PARAMS, {"password"}, about=_ABOUT)
    assert sealer.seal(once, {"password"}, about=_ABOUT) == once


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=5)
)
def test_every_json_value_can_be_a_secret(value: Any) -> None:
    sealer = _sealer()
    assert sealer.unseal(sealer.seal({"s": value}, ["s"], about="x"), about="x") == {"s": value}


def test_a_sealed_value_does_not_open_elsewhere() -> None:
    sealer = _sealer()
    sealed = sealer.seal(_PARAMS, {"password"}, about=_ABOUT)
    with pytest.raises(SealError, match="belongs to something"):
        sealer.unseal(sealed, about="connector/other")
    with pytest.raises(SealError, match="belongs to something"):
        sealer.unseal({"token": sealed["password"]}, about=_ABOUT)


def test_a_changed_bit_does_not_open_and_no_error_tells_the_value() -> None:
    sealer = _sealer()
    text = sealer.seal(_PARAMS, {"password"}, about=_ABOUT)["password"]["$sealed"]
    for broken in (
        text[:-2] + ("AA" if text[-2:] != "AA" else "BB"),
        text[:20],
        "1.k1.",
        "1.k1",
        "2.k1.xx",
        "x",
    ):
        with pytest.raises(SealError) as caught:
            sealer.unseal({"password": {"$sealed": broken}}, about=_ABOUT)
        assert "hunter2" not in str(caught.value)


def test_rotation_needs_no_stop() -> None:
    """Old and new key side by side; resealed; then the old one can go."""
    old, new = new_key("old"), new_key("new")
    sealed = _sealer(old).seal(_PARAMS, {"password"}, about=_ABOUT)
    both = _sealer(new, old)
    assert both.unseal(sealed, about=_ABOUT) == _PARAMS
    assert both.needs_reseal(sealed)
    resealed = both.reseal(sealed, about=_ABOUT)
    assert key_ids(sealed) == {"old"}
    assert key_ids(resealed) == {"new"}
    assert not both.needs_reseal(resealed)
    assert both.reseal(resealed, about=_ABOUT) == resealed
    assert _sealer(new).unseal(resealed, about=_ABOUT) == _PARAMS
    with pytest.raises(SealError, match=r"key 'old', which is not in the cluster key file.*add that key"):
        _sealer(new).unseal(sealed, about=_ABOUT)


def test_without_a_cluster_key_a_secret_is_refused_with_the_remedy_and_other_params_pass() -> None:
    sealer = Sealer(None)
    assert sealer.seal({"url": "x"}, {"password"}, about=_ABOUT) == {"url": "x"}
    with pytest.raises(SealError, match="--cluster-key-file"):
        sealer.seal(_PARAMS, {"password"}, about=_ABOUT)


def test_redaction_shows_neither_secret_nor_ciphertext() -> None:
    sealed = _sealer().seal(_PARAMS, {"password"}, about=_ABOUT)
    assert redact(sealed) == {**_PARAMS, "password": REDACTED}
    assert redact(_PARAMS, {"password"}) == {**_PARAMS, "password": REDACTED}


def test_who_writes_back_what_a_view_showed_changes_no_secret() -> None:
    sealed = _sealer().seal(_PARAMS, {"password"}, about=_ABOUT)
    update = {**redact(sealed), "port": 6}
    assert restore_redacted(update, sealed) == {**sealed, "port": 6}
    with pytest.raises(SealError, match="stands for no secret"):
        restore_redacted({"token": REDACTED}, sealed)
