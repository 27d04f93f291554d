"""Promises of :mod:`agentcom.settings`."""

import json
from pathlib import Path

import pytest

from agentcom.settings import DEFAULT_HUB, has_screen, load, sidecar_env
from protocol.errors import BadInput


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def local_hub(home: dict[str, str], url: str = "http://127.0.0.1:7999") -> Path:
    folder = Path(home["HOME"]) / ".local/share/agentcom"
    folder.mkdir(parents=True)
    (folder / "hub.json").write_text(json.dumps({"url": url, "pid": 1}))
    (folder / "admin.token").write_text("acm_local\n")
    return folder


def test_without_anything_the_usual_address_is_used(home: dict[str, str]) -> None:
    found = load({}, home)

    assert (found.hub, found.token, found.origins["hub"]) == (DEFAULT_HUB, "", "default")


def test_the_hub_of_this_machine_is_found_with_its_token(home: dict[str, str]) -> None:
    folder = local_hub(home)

    found = load({}, home)

    assert (found.hub, found.token) == ("http://127.0.0.1:7999", "acm_local")
    assert found.origins["hub"] == str(folder / "hub.json")


def test_a_flag_counts_more_than_the_environment_and_that_more_than_the_file(home: dict[str, str]) -> None:
    file = Path(home["HOME"]) / "c.toml"
    file.write_text('hub = "http://file:1"\ntoken = "acm_file"\n')
    env = home | {"AGENTCOM_HUB": "http://env:1"}

    assert load({"hub": "http://flag:1/"}, env, str(file)).hub == "http://flag:1"
    assert load({"hub": None}, env, str(file)).hub == "http://env:1"
    assert load({}, home, str(file)).hub == "http://file:1"


def test_the_nearer_token_counts_and_in_one_place_the_token_before_its_file(home: dict[str, str]) -> None:
    flag, variable = Path(home["HOME"]) / "flag", Path(home["HOME"]) / "variable"
    flag.write_text("acm_flag\n")
    variable.write_text("acm_variable\n")
    env = home | {"AGENTCOM_TOKEN": "acm_env", "AGENTCOM_TOKEN_FILE": str(variable)}

    assert load({"token_file": str(flag)}, env).token == "acm_flag"
    assert load({}, env).token == "acm_env"
    assert load({}, home | {"AGENTCOM_TOKEN_FILE": str(variable)}).token == "acm_variable"


@pytest.mark.parametrize("hub", ["http://somewhere.example:7999", "http://127.0.0.1:8000", "https://127.0.0.1:7999"])
def test_the_local_token_is_not_sent_to_another_hub(home: dict[str, str], hub: str) -> None:
    local_hub(home)

    assert load({"hub": hub}, home).token == ""
    assert load({}, home | {"AGENTCOM_HUB": hub}).token == ""


def test_the_local_hub_may_be_called_by_any_of_its_names(home: dict[str, str]) -> None:
    local_hub(home)

    assert load({"hub": "http://localhost:7999/"}, home).token == "acm_local"


def test_a_data_directory_named_by_hand_gives_its_token_to_any_hub(home: dict[str, str], tmp_path: Path) -> None:
    folder = local_hub(home)

    assert load({"hub": "http://tunnel:1", "data_dir": str(folder)}, home).token == "acm_local"


@pytest.mark.parametrize("hub", ["nonsense", "ftp://x", "http://", "http://x:99999", "http://[", "http://x:0"])
def test_what_is_no_address_is_refused(home: dict[str, str], hub: str) -> None:
    with pytest.raises(BadInput, match="not an address like"):
        load({"hub": hub}, home)


def test_every_problem_is_named_at_once(home: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        load({"hub": "x", "token_file": "/nowhere"}, home)

    assert [p.path for p in caught.value.problems] == ["hub", "token_file"]


@pytest.mark.parametrize("content", ["", "two words", "t\u00f6ken", "a\nb"])
def test_a_file_that_holds_no_token_is_refused(home: dict[str, str], content: str) -> None:
    file = Path(home["HOME"]) / "token"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(BadInput, match="does not hold one token"):
        load({"token_file": str(file)}, home)


def test_a_token_that_could_not_be_sent_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="AGENTCOM_TOKEN does not hold one token"):
        load({}, home | {"AGENTCOM_TOKEN": "acm_x\nX-Evil: 1"})


def test_an_unknown_key_and_a_broken_file_are_refused(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("hubb = 'x'\n")
    with pytest.raises(BadInput, match="unknown key"):
        load({}, home, str(file))
    file.write_text("hub = \n")
    with pytest.raises(BadInput, match="is not TOML"):
        load({}, home, str(file))
    with pytest.raises(BadInput, match="cannot read"):
        load({}, home, str(tmp_path / "none"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 3}'])
def test_a_broken_hub_file_is_as_good_as_none(home: dict[str, str], content: str) -> None:
    (local_hub(home) / "hub.json").write_text(content)

    assert load({}, home).hub == DEFAULT_HUB


def test_what_is_shown_holds_no_secret(home: dict[str, str]) -> None:
    shown = load({}, home | {"AGENTCOM_TOKEN": "acm_id0000_secret"}).shown

    assert "secret" not in str(shown)
    assert shown["token"]["origin"] == "AGENTCOM_TOKEN"


def test_programs_started_here_do_not_inherit_whom_this_user_talks_to() -> None:
    env = {"PATH": "/bin", "HUB": "x", "AGENTCOM_HUB": "x", "AGENTCOM_TOKEN": "x", "AGENTCOM_LOG": "json"}

    assert sidecar_env(env) == {"PATH": "/bin", "HUB": "x", "AGENTCOM_LOG": "json"}


def test_a_browser_needs_a_screen() -> None:
    assert has_screen({"DISPLAY": ":0"})


def test_several_hubs_are_named_with_commas_and_the_local_token_goes_to_none_but_its_own(home: dict[str, str]) -> None:
    found = load({"hub": "http://one:1/, https://two:2"}, env=home)

    assert (found.hub, found.token) == ("http://one:1,https://two:2", "")
    with pytest.raises(BadInput) as caught:
        load({"hub": "http://one:1,nowhere"}, env=home)
    assert [problem.path for problem in caught.value.problems] == ["hub"]
