"""The commands that the pages tell people to type are words that the program understands, also those within a sentence.

Commands of ours are read by the program itself, word for word, as far as one can without a hub. That they do what the
pages say is shown by ``test_executed.py``, but for those that cannot be run here.
"""

import re
from pathlib import Path
from typing import Final

import click
import pytest

import agentcom.cli
from tests.docs.commands import ROOT, Said, said

EXCUSED: Final = {
    r"\./run (demo|test|check|bench)\b|\.ci/run": "runs these tests, or rows that take minutes",
    r"pip install": "fetches from the package index",
    r"curl -fsSk .*install\.sh": "run by tests/integration/test_install.py",
    r"curl -H": "run by tests/integration/test_web_metrics.py",
    r"git (fetch|push) REPOSITORY": "run by tests/e2e/test_pausing.py",
    r"python -m tests\.simulation": "run by tests/simulation",
    r"useradd|cp ops/|systemctl": "changes the machine; the unit is read by tests/docs/test_ops.py",
    r"docker|echo POSTGRES_PASSWORD|touch agent\.token": "needs Docker; the files are read by tests/docs/test_ops.py",
    r"(promtool|amtool) ": "run by tests/ops/test_generated.py",
    r"head -c 32 /dev/urandom": "needs systemd; what it makes is read by tests/unit/hub/test_vault.py",
    r"kubectl": "needs a cluster; the files are read by tests/docs/test_ops.py",
    r"agentcom join": "installs a service on another machine; run by tests/e2e/test_join.py",
    r"agentcom (machines )?upgrade": "installs a release; run by tests/e2e/test_upgrade.py",
    r"agentcom bench": "measures for minutes; run by tests/e2e/test_bench.py",
    r"agentcom submit .* --clean-room always": "needs a second machine; run by tests/e2e/test_clean_room.py",
    r"agentcom submit .* --executor acp": "needs a coding agent; run by tests/e2e/test_acp.py",
    r"agentcom hub .* --store postgresql": "needs PostgreSQL; run by tests/integration/test_several_hubs.py",
}
"""Commands that are printed to be typed and that ``test_executed.py`` does not type, and why not."""
OURS: Final = [each for each in said() if re.match(r"(?:AGENTCOM_\w+=\S+ )*agentcom ", each.text)]
BLOCKS: Final = [each for each in OURS if each.is_block]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and what is left of them."""
    found: click.Command = agentcom.cli.root
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        below = found.get_command(click.Context(found), words[0])
        assert below is not None, f"there is no {words[0]!r}"
        found, words = below, words[1:]
        if isinstance(found, click.Group) and "ls" in found.commands and (not words or words[0].startswith("-")):
            found = found.commands["ls"]  # what it does without a verb
        if isinstance(found, click.Group) and found.name == "sidecar" and words and words[0].startswith("-"):
            break
    return found, words


def words_of(each: Said) -> list[str]:
    return [word for word in each.words if not word.startswith("AGENTCOM_")][1:]


def test_every_excuse_is_needed() -> None:
    """All commands that have none are run, page by page (``test_executed.py``)."""
    blocks = [each for each in said() if each.is_block]

    assert [shape for shape in EXCUSED if not any(re.match(shape, each.text) for each in blocks)] == []


def test_the_tests_that_are_named_are_there() -> None:
    named = {name for why in EXCUSED.values() for name in re.findall(r"tests/[\w/]+(?:\.py)?", why)}

    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("each", OURS, ids=str)
def test_every_verb_and_every_option_is_there(each: Said) -> None:
    text = re.sub(r"(\w+)(?:\|\w+)+", r"\1", each.text)  # one of several verbs
    command, words = command_of(words_of(Said(each.page, text)))
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    said_ = {word.partition("=")[0] for word in words if word.startswith("--")}

    assert said_ <= known | {"--version"}


@pytest.fixture
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that commands name."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name in ("requests.csv", "audit.jsonl", "new.css"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_at_home")
@pytest.mark.parametrize("each", BLOCKS, ids=str)
def test_the_program_understands_the_whole_command(each: Said) -> None:
    command, words = command_of(words_of(each))
    if isinstance(command, click.Group) and command.name != "sidecar":
        return  # without a verb it lists

    with command.make_context("agentcom", list(words)):
        pass  # every word was taken
