"""NatsConfig: what is taken, what is refused and how, and that no secret is ever shown."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.config import DEFAULT_URL, NatsConfig
from transport.errors import ConfigError

SECRET = "hunter2secret"


def test_without_settings_it_is_the_local_server_without_identity() -> None:
    config = NatsConfig.from_params({})
    assert config == NatsConfig()
    assert config.servers == (DEFAULT_URL,)
    assert config.credentials() == {}
    assert not config.wants_tls


@pytest.mark.parametrize(
    ("given_servers", "servers"),
    [
        ("nats://a:4222", ("nats://a:4222",)),
        ("a", ("nats://a:4222",)),
        ("a:5000, b ,tls://c:6000", ("nats://a:5000", "nats://b:4222", "tls://c:6000")),
        (["nats://a", "nats://[::1]:4300/"], ("nats://a:4222", "nats://[::1]:4300")),
    ],
)
def test_servers_are_a_list_or_a_string_with_commas(given_servers: Any, servers: tuple[str, ...]) -> None:
    assert NatsConfig.from_params({"servers": given_servers}).servers == servers


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"user": "ann"}, ["user", "password"]),
        ({"password": SECRET}, ["password", "user"]),
        ({"user": "ann", "password": SECRET, "token": SECRET}, ["user", "token"]),
        ({"token": SECRET, "creds": "x.creds"}, ["token", "creds"]),
        ({"creds": "x.creds", "nkey_seed": SECRET}, ["creds", "nkey_seed"]),
        ({"tls_cert": "c.pem"}, ["tls_cert", "tls_key"]),
        ({"tls_key": "k.pem"}, ["tls_key", "tls_cert"]),
        ({"servers": f"nats://ann:{SECRET}@a", "token": SECRET}, ["URL", "token"]),
        ({"servers": [f"nats://ann:{SECRET}@a", f"nats://bob:{SECRET}@b"]}, ["servers", "one identity"]),
        ({"passwort": SECRET}, ["passwort", "did you mean password"]),
        ({"zzz": SECRET}, ["zzz", "known are"]),
        ({"servers": []}, ["servers", "empty"]),
        ({"servers": " , "}, ["servers", "empty"]),
        ({"servers": f"http://ann:{SECRET}@a"}, ["http", "nats://"]),
        ({"servers": f"nats://ann:{SECRET}@"}, ["server URL", DEFAULT_URL]),
        ({"servers": f"nats://ann:{SECRET}@a:port"}, ["server URL"]),
        ({"servers": f"nats://ann:{SECRET}@a b"}, ["server URL"]),
        ({"servers": "nats://a:0"}, ["server URL"]),
        ({"servers": 7}, ["servers", "int"]),
        ({"user": 7}, ["user", "text"]),
        ({"connect_timeout": "soon"}, ["connect_timeout", "seconds"]),
        ({"connect_timeout": True}, ["connect_timeout", "seconds"]),
        ({"connect_timeout": "nan"}, ["connect_timeout", "seconds"]),
        ({"ping_interval": 0}, ["ping_interval", "0.05"]),
        ({"token": "env:NOT_SET_ANYWHERE"}, ["token", "NOT_SET_ANYWHERE"]),
        ({"token": "file:/not/there"}, ["token", "/not/there"]),
        ({"token": "file:\0"}, ["token", "cannot read"]),
    ],
)
def test_what_is_wrong_is_refused_by_name_without_its_secret(
    params: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        NatsConfig.from_params(params)
    text = str(caught.value)
    assert [word for word in words if word not in text] == []
    assert SECRET not in text


def test_values_may_come_from_environment_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    monkeypatch.setenv("NATS_USER", "ann")
    monkeypatch.setenv("NATS_SERVERS", "nats://a,nats://b")
    config = NatsConfig.from_params(
        {
            "servers": "env:NATS_SERVERS",
            "user": "env:NATS_USER",
            "password": f"file:{tmp_path / 'password'}",
            "token": None,
        }
    )
    assert config.servers == ("nats://a:4222", "nats://b:4222")
    assert config.credentials() == {"user": "ann", "password": SECRET}


def test_a_user_in_the_url_becomes_the_identity_and_leaves_the_url() -> None:
    config = NatsConfig(servers=(f"nats://ann:{SECRET}%2F@a", f"nats://ann:{SECRET}%2F@b", "nats://c"))
    assert config.credentials() == {"user": "ann", "password": f"{SECRET}/"}
    assert config.servers == ("nats://a:4222", "nats://b:4222", "nats://c:4222")
    assert NatsConfig(servers=(f"nats://{SECRET}@a",)).credentials() == {"token": SECRET}


@pytest.mark.parametrize(
    "params",
    [
        {"user": "ann", "password": SECRET},
        {"token": SECRET},
        {"nkey_seed": SECRET},
        {"servers": f"nats://ann:{SECRET}@a"},
        {"servers": f"nats://{SECRET}@a"},
    ],
)
def test_no_secret_is_in_repr_or_str(params: dict[str, Any]) -> None:
    config = NatsConfig.from_params(params)
    assert SECRET not in f"{config!r} {config}"


def test_a_seed_that_is_none_is_refused_without_showing_it() -> None:
    seed = "SU" + "!" * 56
    with pytest.raises(ConfigError) as caught:
        NatsConfig(nkey_seed=seed).credentials()
    assert seed not in str(caught.value)


@pytest.mark.parametrize("setting", [{"tls_ca": "x"}, {"tls_hostname": "x"}, {"servers": "tls://a"}])
def test_any_tls_setting_asks_for_tls(setting: dict[str, str]) -> None:
    assert NatsConfig.from_params(setting).wants_tls


_foreign = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text())
)
_keys = st.one_of(st.sampled_from(NatsConfig.__slots__), st.text())


@given(st.dictionaries(_keys, _foreign))
def test_foreign_settings_make_a_configuration_or_a_config_error(params: dict[str, Any]) -> None:
    try:
        config = NatsConfig.from_params(params)
    except ConfigError:
        return
    assert config.servers
    assert all("@" not in server for server in config.servers)
