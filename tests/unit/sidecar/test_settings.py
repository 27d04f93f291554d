"""The promises of the sidecar's settings."""

from pathlib import Path

import pytest

from hub.options import Settings as HubSettings
from protocol.errors import BadInput
from protocol.model import EndpointKind
from sidecar.core.programs import AgentProgram
from sidecar.llm.config import EndpointSettings
from sidecar.plugins import PluginSettings
from sidecar.settings import Settings, default_state_dir, effective, load

ENV = {"HOME": "/home/someone"}


def problems(flags: dict[str, object], env: dict[str, str] | None = None, file: Path | None = None) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        load(flags, ENV | (env or {}), str(file) if file else None)
    return {problem.path: problem.problem for problem in caught.value.problems}


def guess(name: str, url: str, kind: EndpointKind = EndpointKind.OPENAI) -> EndpointSettings:
    return EndpointSettings(name, kind, url, guessed=True)


USUAL = (
    guess("llamacpp", "http://127.0.0.1:8080/v1"),
    guess("lmstudio", "http://127.0.0.1:1234/v1"),
    guess("vllm", "http://127.0.0.1:8000/v1"),
)


def test_defaults_need_only_a_token() -> None:
    settings, origins = load({"token": "acm_x"}, ENV)

    assert settings == Settings(
        token="acm_x",
        state_dir="/home/someone/.local/state/agentcom/sidecar",
        endpoints=(guess("ollama", "http://127.0.0.1:11434", EndpointKind.OLLAMA), *USUAL),
    )
    assert origins["token"] == "--token"
    assert origins["slots"] == "default"


def test_flags_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text('hub = "http://file:1"\nname = "File"\nslots = 2\ndrain_s = 7\n')
    env = ENV | {"AGENTCOM_NAME": "Env", "AGENTCOM_SLOTS": "3", "AGENTCOM_CAPABILITIES": "gpu, site:lab"}
    settings, origins = load({"token": "acm_x", "slots": 4}, env, str(file))

    assert (settings.slots, settings.name, settings.hub, settings.drain_s) == (4, "Env", "http://file:1", 7.0)
    assert settings.capabilities == ("gpu", "site:lab")
    assert (origins["slots"], origins["name"], origins["hub"]) == ("--slots", "AGENTCOM_NAME", str(file))


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(
        'slotz = 1\nslots = "many"\n[[endpoints]]\nid = "a"\nkind = "ollama"\nurl = "ftp://x"\ncolour = 1\n'
    )
    found = problems({"token": "acm_x"}, {"AGENTCOM_SLOT": "2", "AGENTCOM_DRAIN_S": "soon"}, file)

    assert set(found) == {"slotz", "slots", "endpoints[0].colour", "AGENTCOM_SLOT", "drain_s"}
    assert found["AGENTCOM_SLOT"] == "unknown variable; did you mean AGENTCOM_SLOTS?"


def test_every_value_that_cannot_work_is_told(tmp_path: Path) -> None:
    found = problems(
        {
            "hub": "mesh.example", "token": "acm_x", "token_file": str(tmp_path / "none"), "name": "-x", "slots": 0,
            "capabilities": ("gpu", "a b"), "judges": ("ollama/m", "ollama/"),
            "drain_s": -1.0, "check_s": 0.0, "log": "xml", "log_level": "loud",
        }
    )  # fmt: skip

    assert set(found) == {
        "judges[1]",
        "hub",
        "token_file",
        "name",
        "slots",
        "capabilities[1]",
        "check_s",
        "drain_s",
        "log",
        "log_level",
    }


@pytest.mark.parametrize("hub", ["ftp://x", "http://", "http://[::1", "http://x:99999", "http://me:secret@hub", ""])
def test_an_address_that_is_no_hub_is_refused(hub: str) -> None:
    flags: dict[str, object] = {"token": "acm_x", "hub": hub or " "}
    found = problems(flags)

    assert set(found) == {"hub"}
    assert "secret" not in found["hub"]


def test_a_token_or_its_file_is_needed_and_the_file_must_be_there(tmp_path: Path) -> None:
    assert "a token is needed" in problems({})["token_file"]
    assert "there is no file" in problems({"token_file": str(tmp_path / "none")})["token_file"]

    file = tmp_path / "token"
    file.write_text("acm_first\n")
    settings, _ = load({"token_file": str(file)}, ENV)

    assert settings.read_token() == "acm_first"
    file.write_text("acm_second\n")
    assert settings.read_token() == "acm_second"


@pytest.mark.parametrize(
    "env, url",
    [
        ({"GEMINI_API_KEY": "AIza-1"}, "https://generativelanguage.googleapis.com/v1beta"),
        ({"GOOGLE_API_KEY": "AIza-1", "GOOGLE_GEMINI_BASE_URL": "http://box:9/"}, "http://box:9/v1beta"),
    ],
)
def test_a_key_for_gemini_is_found_under_both_of_its_names(env: dict[str, str], url: str) -> None:
    settings, _ = load({"token": "acm_x"}, ENV | env)

    assert EndpointSettings("gemini", EndpointKind.GEMINI, url, api_key="AIza-1") in (settings.endpoints or ())


def test_endpoints_come_from_the_variables_of_their_own_tools() -> None:
    env = ENV | {"OLLAMA_HOST": "0.0.0.0:9", "ANTHROPIC_API_KEY": "sk-ant-1", "OPENAI_BASE_URL": "http://box:8000/v1"}
    settings, _ = load({"token": "acm_x"}, env)

    assert settings.endpoints == (
        EndpointSettings("ollama", EndpointKind.OLLAMA, "http://127.0.0.1:9"),
        EndpointSettings("claude", EndpointKind.ANTHROPIC, "https://api.anthropic.com", api_key="sk-ant-1"),
        EndpointSettings("openai", EndpointKind.OPENAI, "http://box:8000/v1"),
        *USUAL,
    )


def test_a_usual_place_that_is_named_is_not_looked_at_twice() -> None:
    settings, _ = load({"token": "acm_x"}, ENV | {"OPENAI_BASE_URL": "http://localhost:8080/v1"})

    assert [each.id for each in settings.endpoints or ()] == ["ollama", "openai", "lmstudio", "vllm"]


def test_listed_endpoints_are_all_there_are(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(
        '[[endpoints]]\nid = "big"\nkind = "ollama"\nurl = "http://big:11434"\nlocal = true\nnum_ctx = 4096\n'
    )
    settings, origins = load({"token": "acm_x"}, ENV | {"ANTHROPIC_API_KEY": "sk-ant-1"}, str(file))

    assert settings.endpoints == (
        EndpointSettings("big", EndpointKind.OLLAMA, "http://big:11434", local=True, num_ctx=4096),
    )
    assert origins["endpoints"] == str(file)

    file.write_text("endpoints = []\n")

    assert load({"token": "acm_x"}, ENV, str(file))[0].endpoints == ()


@pytest.mark.parametrize(
    "text, path",
    [
        ('endpoints = "x"', "endpoints"),
        ("endpoints = [1]", "endpoints[0]"),
        ('[[endpoints]]\nid = "a"\n', "endpoints[0]"),
        ('[[endpoints]]\nid = "a b!"\nkind = "ollama"\nurl = "http://x"\n', "endpoints[0].id"),
        ('[[endpoints]]\nid="a"\nkind="ollama"\nurl="http://x"\n' * 2, "endpoints"),
    ],
)
def test_endpoints_that_cannot_work_are_refused(tmp_path: Path, text: str, path: str) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(text)

    assert path in problems({"token": "acm_x"}, {}, file)


def test_coding_agents_are_listed_in_the_file_or_left_to_be_found(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(
        '[[agents]]\nname = "opencode"\n[[agents]]\nname = "mine"\ncommand = ["m", "-x"]\nenv = {A = "1"}\n'
    )
    settings, origins = load({"token": "acm_x"}, ENV, str(file))
    shown = {line.name: line.value for line in effective(settings, origins)}

    assert settings.agents == (AgentProgram("opencode"), AgentProgram("mine", ("m", "-x"), env={"A": "1"}))
    assert (shown["agents"], origins["agents"]) == ("opencode (opencode acp), mine (m -x)", str(file))
    assert load({"token": "acm_x"}, ENV)[0].agents is None
    file.write_text("agents = []\n")
    assert load({"token": "acm_x"}, ENV, str(file))[0].agents == ()


@pytest.mark.parametrize(
    "text, path",
    [
        ("agents = 5", "agents"),
        ('[[agents]]\nname = "mine"\n', "agents[0].command"),
        ('[[agents]]\nname = "codex"\ndenies = ["all"]\n', "agents[0].denies"),
        ('[[agents]]\nname = "codex"\nkey = "x"\n', "agents[0].key"),
        ('[[agents]]\nname = "codex"\n' * 2, "agents"),
    ],
)
def test_coding_agents_that_cannot_work_are_refused(tmp_path: Path, text: str, path: str) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(text)

    assert path in problems({"token": "acm_x"}, {}, file)


@pytest.mark.parametrize("raw", [b"slots = ", b"\xff\xfe", None], ids=["no TOML", "no text", "no file"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, raw: bytes | None) -> None:
    file = tmp_path / "sidecar.toml"
    if raw is not None:
        file.write_bytes(raw)

    assert str(file) in problems({"token": "acm_x"}, {}, file)["config"]


def test_variables_of_other_parts_are_not_ours_to_judge() -> None:
    env = ENV | {"AGENTCOM_LISTEN": "x", "AGENTCOM_DATA_DIR": "x", "AGENTCOM_ITERATION": "1", "AGENTCOM_TASK": "t"}

    assert load({"token": "acm_x"}, env)[0].slots == 1


def test_what_counts_is_shown_without_secrets() -> None:
    env = ENV | {"ANTHROPIC_API_KEY": "sk-ant-1", "AGENTCOM_SLOTS": "2"}
    shown = {line.name: line for line in effective(*load({"token": "acm_secret"}, env))}

    assert shown["token"].value == "***"
    assert (shown["slots"].value, shown["slots"].origin) == ("2", "AGENTCOM_SLOTS")
    assert shown["endpoints"].value.startswith(
        "ollama (ollama at http://127.0.0.1:11434, if there is one), "
        "claude (anthropic at https://api.anthropic.com, key ***), "
    )
    assert "acm_secret" not in str(shown)
    assert "sk-ant" not in str(shown)


@pytest.mark.parametrize("host", ["box:port", "http://[::1"])
def test_an_ollama_address_that_is_none_is_told(host: str) -> None:
    assert "OLLAMA_HOST" in problems({"token": "acm_x"}, {"OLLAMA_HOST": host})


@pytest.mark.parametrize("host, key", [("https://ollama.example", "k"), ("", "")])
def test_the_key_of_ollama_goes_with_the_address_that_was_named(host: str, key: str) -> None:
    settings, _ = load({"token": "acm_x"}, ENV | {"OLLAMA_HOST": host, "OLLAMA_API_KEY": "k"})

    assert settings.endpoints is not None
    assert settings.endpoints[0].api_key == key


def test_the_state_directory_follows_xdg() -> None:
    assert default_state_dir({"XDG_STATE_HOME": "/s"}) == "/s/agentcom/sidecar"
    assert default_state_dir(ENV) == "/home/someone/.local/state/agentcom/sidecar"


def test_several_hubs_may_be_named_in_every_way(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text('hub = ["http://one:1", "http://two:2/"]\n')
    wanted = ("http://one:1", "http://two:2")

    assert load({"token": "acm_x"}, env={}, file=str(file))[0].hubs == wanted
    assert load({"token": "acm_x", "hub": wanted}, env={})[0].hubs == wanted
    assert load({"token": "acm_x"}, env={"AGENTCOM_HUB": "http://one:1, http://two:2"})[0].hubs == wanted
    assert load({"token": "acm_x", "hub": ()}, env={})[0].hubs == ("http://127.0.0.1:7420",)
    with pytest.raises(BadInput) as caught:
        load({"token": "acm_x", "hub": ("http://one:1", "ftp://two", "three")}, env={})
    assert [problem.path for problem in caught.value.problems] == ["hub", "hub"]


def test_every_setting_of_the_sandbox_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("acm_x")
    wrong = {
        "sandbox": "docker",
        "sandbox_read": ("relative",),
        "sandbox_write": (str(token),),
        "sandbox_memory_mb": "1",
        "sandbox_processes": "2",
        "sandbox_disk_mb": "63",
        "sandbox_cpus": "0.001",
        "sandbox_domains": ("*",),
        "sandbox_endpoints": ("nowhere",),
    }
    with pytest.raises(BadInput) as told:
        load({"token_file": str(token), **wrong}, {})

    assert {problem.path for problem in told.value.problems} == set(wrong)
    right, _ = load({"token_file": str(token), "sandbox_cpus": "1.5", "sandbox_read": (str(tmp_path),)}, {})
    assert (right.sandbox, right.sandbox_cpus, right.sandbox_read) == ("auto", 1.5, (str(tmp_path),))


def test_plug_ins_are_named_in_the_file_alone(tmp_path: Path) -> None:
    file, program = tmp_path / "sidecar.toml", tmp_path / "program"
    program.touch()
    file.write_text(f'[[plugins]]\nname = "licences"\ncommand = ["{program}", "--strict"]\n')
    settings, origins = load({"token": "acm_x"}, ENV, str(file))

    assert settings.plugins == (PluginSettings(name="licences", command=(str(program), "--strict")),)
    assert origins["plugins"] == str(file)
    shown = {setting.name: setting.value for setting in effective(settings, origins)}
    assert shown["plugins"] == f"licences ({program} --strict)"


@pytest.mark.parametrize(
    "text, path",
    [
        ('[[plugins]]\nname = "a b"\ncommand = ["/bin/sh"]\n', "plugins[0].name"),
        ('[[plugins]]\nname = "a"\ncommand = ["sh"]\n', "plugins[0].command"),
        ('[[plugins]]\nname = "a"\ncommand = []\n', "plugins[0].command"),
        ('[[plugins]]\nname = "a"\n', "plugins[0]"),
        ('plugins = "a"\n', "plugins"),
        ('[[plugins]]\nname = "a"\ncommand = ["/bin/sh"]\ncolour = 1\n', "plugins[0].colour"),
        ('[[plugins]]\nname = "a"\ncommand = ["/bin/sh"]\n' * 2, "plugins"),
    ],
)
def test_a_plug_in_that_cannot_work_is_told(tmp_path: Path, text: str, path: str) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(text)

    assert set(problems({"token": "acm_x"}, {}, file)) == {path}


def test_what_is_meant_for_the_hub_is_no_mistake_of_ours() -> None:
    """``agentcom up`` gives one environment to both."""
    of_hub = {f"AGENTCOM_{name.upper()}" for name in HubSettings.__struct_fields__}
    ours = {f"AGENTCOM_{name.upper()}" for name in Settings.__struct_fields__}

    found = problems({"slots": "0", "token": "acm_x"}, dict.fromkeys(of_hub - ours, "x"))
    assert [path for path in found if path.startswith("AGENTCOM_")] == []
