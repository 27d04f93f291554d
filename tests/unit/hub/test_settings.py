"""The promises of the hub's settings: safe by default, refused in words, all problems at once."""

from pathlib import Path

import pytest

from hub.settings import Settings, default_data_dir, load, read_toml
from protocol.errors import BadInput
from protocol.model import Strategy, Tier


def problems(**flags: object) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        load({"data_dir": "/tmp/x", **flags}, env={})
    return {p.path: p.problem for p in caught.value.problems}


def test_by_default_only_this_machine_can_reach_the_hub() -> None:
    settings, origins = load({}, env={"HOME": "/home/me"})

    assert settings.address == ("127.0.0.1", 7420)
    assert settings.data_dir == "/home/me/.local/share/agentcom"
    assert not settings.plaintext
    assert set(origins.values()) == {"default"}


@pytest.mark.parametrize(
    "listen, address",
    [("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0)), ("127.0.0.9:65535", ("127.0.0.9", 65_535))],
)
def test_an_address_is_host_and_port(listen: str, address: tuple[str, int]) -> None:
    assert load({"listen": listen}, env={})[0].address == address


@pytest.mark.parametrize(
    "listen", ["", "7420", "host:", ":7420", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:\u00b2", "a:b:c"]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    assert "not host:port, like 127.0.0.1:7420" in problems(listen=listen)["listen"]


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1"])
def test_an_address_that_others_can_reach_has_tls_or_a_proxy_before_it(listen: str) -> None:
    assert load({"listen": listen}, env={})[0].speaks_tls
    assert load({"listen": listen, "tls_cert": "c", "tls_key": "k"}, env={})[0].speaks_tls
    told = problems(listen=listen, plaintext=True)["plaintext"]
    assert "leave --plaintext out, and the hub speaks TLS with a certificate of its own" in told
    assert "or name the proxy that speaks it, with --trusted-proxy ADDRESS" in told
    proxied = load({"listen": listen, "plaintext": True, "trusted_proxies": ["10.1.0.0/16"]}, env={})[0]
    assert not proxied.speaks_tls


def test_a_loopback_address_has_tls_only_if_it_is_asked_for() -> None:
    assert not load({}, env={})[0].speaks_tls
    assert load({"tls": True}, env={})[0].speaks_tls
    assert not load({"plaintext": True}, env={})[0].speaks_tls


@pytest.mark.parametrize(
    "flags, path",
    [
        ({"tls_cert": "c"}, "tls_key"),
        ({"tls_key": "k"}, "tls_cert"),
        ({"tls": True, "plaintext": True}, "plaintext"),
        ({"tls_names": ["a b"]}, "tls_names"),
        ({"trusted_proxies": ["proxy.example.org"]}, "trusted_proxies"),
        ({"trusted_proxies": ["10.1.2.3/16"]}, "trusted_proxies"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "trusted_proxies"),
        ({"store": "mysql://x"}, "store"),
        ({"heartbeat_s": 0.01}, "heartbeat_s"),
        ({"check_s": 0.1}, "check_s"),
        ({"check_s": float("inf")}, "check_s"),
        ({"heartbeat_s": float("nan")}, "heartbeat_s"),
        ({"heartbeat_s": 61, "lease_s": 600}, "heartbeat_s"),
        ({"heartbeat_s": 20.0, "lease_s": 59.9}, "lease_s"),
        ({"lease_s": float("inf")}, "lease_s"),
        ({"window": 0}, "window"),
        ({"disk_reserve_mb": -1}, "disk_reserve_mb"),
        ({"memory_limit_mb": 127}, "memory_limit_mb"),
        ({"window": 1_000_001}, "window"),
        ({"log": "loud"}, "log"),
        ({"log_level": "trace"}, "log_level"),
        ({"chain_trivial": ("trivial",)}, "chain_trivial"),
        ({"chain_complex": ("cloud",)}, "chain_complex"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(flags: dict[str, object], path: str) -> None:
    assert path in problems(**flags)


def test_all_problems_are_told_at_once() -> None:
    assert set(problems(window=0, log="x", listen="x", tls_key="k")) == {"window", "log", "listen", "tls_cert"}


def test_chains_are_told_by_tier() -> None:
    settings, _ = load({}, env={"AGENTCOM_CHAIN_COMPLEX": "local_llm"})

    assert settings.chains[Tier.COMPLEX] == (Strategy.LOCAL_LLM,)
    assert settings.chains[Tier.STANDARD] == settings.chains[Tier.TRIVIAL] == (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)


def test_an_empty_chain_cannot_be_made() -> None:
    with pytest.raises(BadInput, match="chain_standard"):
        load({"chain_standard": []}, env={})


def test_the_directory_follows_the_desktop_rules() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/data", "HOME": "/home/me"}) == "/data/agentcom"
    assert load({"data_dir": "x"}, env={})[0].folder == Path("x").absolute()


def test_a_file_sets_what_nobody_nearer_sets(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('window = 5\nlog = "json"\n')
    settings, origins = load({"log": "pretty"}, env={}, file=str(file))

    assert (settings.window, settings.log) == (5, "pretty")
    assert (origins["window"], origins["log"]) == (str(file), "--log")


@pytest.mark.parametrize("content", [b"window = ", b"\xff\xfe", b"windw = 5"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "hub.toml"
    file.write_bytes(content)

    with pytest.raises(BadInput, match=r"hub\.toml"):
        load({}, env={}, file=str(file))


def test_a_file_that_is_not_there_is_refused_and_no_file_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        read_toml(str(tmp_path / "none.toml"))
    assert read_toml(None) == {}
    assert Settings().store == ""
