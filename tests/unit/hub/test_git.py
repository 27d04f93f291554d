import os
from pathlib import Path

import pytest

from hub.git import MOST_COMPLAINED_BYTES, Git, GitRefused


@pytest.fixture
def git() -> Git:
    return Git(os.environ)


async def test_of_what_git_complains_about_only_the_end_is_kept(git: Git, tmp_path: Path) -> None:
    flood = "alias.flood=!yes 0123456789 | head -c 3000000 >&2; echo the end >&2; false"
    done = await git.ask("-c", flood, "flood", cwd=tmp_path)
    with pytest.raises(GitRefused) as caught:
        await git.run("-c", flood, "flood", cwd=tmp_path)

    assert done.exit_code == 1
    assert len(done.error) == MOST_COMPLAINED_BYTES == 8192
    assert done.error.endswith("the end\n")
    assert len(str(caught.value)) < 600


async def test_git_sees_nothing_of_the_environment_of_the_hub_and_no_configuration(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = leaked\n")
    git = Git({**os.environ, "HOME": str(tmp_path), "AGENTCOM_TOKEN": "s3cr3t"})
    shown = await git.run("-c", "alias.env=!env", "env", cwd=tmp_path)
    listed = await git.run("config", "--list", "--show-scope", cwd=tmp_path)

    assert "s3cr3t" not in shown
    assert "HOME=" not in shown
    assert {line.split("\t")[0] for line in listed.splitlines()} == {"command"}
