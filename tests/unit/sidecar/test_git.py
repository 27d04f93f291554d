import os
import subprocess
from pathlib import Path

import pytest

from protocol.model import AttemptId, FailureClass
from sidecar.environment import minimal_env
from sidecar.errors import (
    GitFailed,
    RepositoryInvalid,
    RepositoryMissing,
    RepositoryRefused,
    RepositoryUnreachable,
    failure_of,
)
from sidecar.git import Git, checked_address, checked_branch, is_local
from sidecar.process import Processes

ATTEMPT = AttemptId("sidecar", 1, "01j0000000000000000000000c", 1)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(Processes(base_env=minimal_env(os.environ, home=tmp_path)), {"HOME": str(tmp_path / "user")})


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/owner/project.git",
        "https://example.org:8443/owner/a%20b",
        "https://[2001:db8::1]/project",
        "ssh://git@example.org/owner/project",
        "ssh://git@example.org:2222/~owner/project",
        "ssh://example.org/project",
        "git@example.org:owner/project.git",
        "git@example.org:/srv/project",
        "/srv/git/project",
        "/srv/git/a folder with blanks",
    ],
)
def test_addresses_of_repositories_are_taken_as_they_are(address: str) -> None:
    assert checked_address(address) == address
    assert is_local(address) is address.startswith("/")


def test_a_file_url_is_its_path() -> None:
    assert checked_address("file:///srv/project") == "/srv/project"


HOSTILE = [
    "",
    "-",
    "--upload-pack=touch /tmp/x",
    "-oProxyCommand=x",
    "ext::sh -c touch% /tmp/x",
    "ext::sh",
    "fd::17",
    "file::/srv/x",
    "ssh::git@example.org",
    "https::https://example.org/x",
    "http://example.org/project",
    "git://example.org/project",
    "ftp://example.org/project",
    "rsync://example.org/project",
    "ssh+git://example.org/project",
    "javascript://example.org/%0aalert(1)",
    "file://host/share",
    "file://../x",
    "file:/srv/project",
    "ssh://-oProxyCommand=touch%20x/project",
    "ssh://%2DoProxyCommand=x/project",
    "ssh://-oProxyCommand=x@example.org/project",
    "ssh://git@-oProxyCommand=x/project",
    "ssh://git:secret@example.org/project",
    "https://user:secret@example.org/project",
    "https://token@example.org/project",
    "https:///project",
    "https://example.org",
    "https://example.org/",
    "https://example.org/../",
    "https://exam ple.org/project",
    "https://example.org/a\nb",
    "https://example.org/a\rb",
    "https://example.org/a\0b",
    "https://example.org\\@evil.org/x",
    "https://example.org:99999/x",
    "https://example.org:port/x",
    "https://[::1/x",
    "https://example.org/x?upload=1",
    "https://example.org/x#frag",
    "https://ex\u0430mple.org/x",
    "-x@example.org:owner/project",
    "git@-oProxyCommand=x:project",
    "git@example.org:-x",
    "git@example.org:",
    "@example.org:x",
    "example.org:owner/project",
    "relative/path",
    "./x",
    "../x",
    "~/x",
    "~user/x",
    "C:\\project",
    "/srv/a\nb",
    "/srv/a\0b",
    "/" + "x" * 2_000,
    "https://example.org/" + "x" * 2_000,
]


@pytest.mark.parametrize("address", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_refused_with_the_way_out(address: str) -> None:
    with pytest.raises(RepositoryInvalid) as caught:
        checked_address(address)

    assert "give an https:// or ssh:// address, user@host:path, or an absolute path" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not {"\n", "\0"} & set(str(caught.value))
    assert failure_of(caught.value) is FailureClass.INPUT


def test_the_text_of_a_refusal_is_fixed() -> None:
    with pytest.raises(RepositoryInvalid) as caught:
        checked_address("ext::sh -c x")

    assert str(caught.value) == (
        "repository 'ext::sh -c x': an address holds no blank, backslash or control character; "
        "give an https:// or ssh:// address, user@host:path, or an absolute path"
    )


@pytest.mark.parametrize("branch", ["main", "feature/x", "a-b_c.d", "ünï", "release/1.0", "v1@2", "x" * 200])
def test_branch_names_are_taken_as_they_are_and_git_agrees(branch: str) -> None:
    assert checked_branch("/x", branch) == branch
    assert (
        subprocess.run(["git", "check-ref-format", "--branch", branch], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.parametrize(
    "branch",
    [
        *("", "-x", ".x", "x.", "x/", "/x", "a..b", "a//b", "a/.b", "a.lock", "a.lock/b", "a b", "a~b", "a^b", "a:b"),
        *("a?b", "a*b", "a[b", "a\\b", "a@{b", "@", "HEAD", "a\x7fb", "a\0b", "a\nb", "x\n", "x" * 2_000),
    ],
)
def test_what_git_would_not_take_as_a_branch_is_refused(branch: str) -> None:
    with pytest.raises(RepositoryInvalid, match="is no branch name"):
        checked_branch("/x", branch)


async def test_a_failed_command_tells_what_git_said(git: Git, tmp_path: Path) -> None:
    with pytest.raises(GitFailed) as caught:
        await git.run("rev-parse", "HEAD", attempt=ATTEMPT, cwd=tmp_path)

    assert str(caught.value).startswith("git rev-parse: exit code 128: fatal: not a git repository")
    assert failure_of(caught.value) is FailureClass.INFRA
    assert not await git.succeeds("rev-parse", "HEAD", attempt=ATTEMPT, cwd=tmp_path)
    assert await git.succeeds("version", attempt=ATTEMPT, cwd=tmp_path)


async def test_git_reads_no_configuration_but_ours(git: Git, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = leaked\n")
    listed = await git.run("config", "--list", "--show-scope", attempt=ATTEMPT, cwd=tmp_path)

    assert {line.split("\t")[0] for line in listed.splitlines()} == {"command"}
    assert "leaked" not in listed


async def test_only_commands_for_the_network_see_the_users_home(git: Git, tmp_path: Path) -> None:
    show = ("-c", "alias.show-home=!echo $HOME", "show-home")
    local = await git.run(*show, attempt=ATTEMPT, cwd=tmp_path)
    remote = await git.reach("/x", *show, attempt=ATTEMPT, cwd=tmp_path)

    assert local.strip() == str(tmp_path)
    assert remote.output.strip() == str(tmp_path / "user")


async def test_a_transport_that_slips_through_is_stopped_by_git_itself(git: Git, tmp_path: Path) -> None:
    outcome = await git.reach("x", "ls-remote", f"ext::touch {tmp_path}/trace", attempt=ATTEMPT, cwd=tmp_path)

    assert outcome.exit_code == 128
    assert "transport 'ext' not allowed" in outcome.output
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "said, error",
    [
        ("fatal: '/x' does not appear to be a git repository", RepositoryMissing),
        ("fatal: repository 'https://example.org/x/' not found", RepositoryMissing),
        ("remote: Repository not found.\nfatal: Could not read from remote repository.", RepositoryMissing),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 404", RepositoryMissing),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", RepositoryRefused),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.", RepositoryRefused),
        ("fatal: Authentication failed for 'https://x/'", RepositoryRefused),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", RepositoryRefused),
        ("fatal: detected dubious ownership in repository at '/x'", RepositoryRefused),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", RepositoryUnreachable),
        (
            "ssh: connect to host x port 22: Connection refused\nfatal: Could not read from remote",
            RepositoryUnreachable,
        ),
        ("fatal: early EOF", RepositoryUnreachable),
        ("error: RPC failed; curl 18 transfer closed", RepositoryUnreachable),
    ],
)
async def test_what_git_says_about_a_remote_becomes_what_to_do(
    git: Git, tmp_path: Path, said: str, error: type[Exception]
) -> None:
    (tmp_path / "said").write_text(said)
    with pytest.raises(error, match=r"repository 'https://example\.org/x'"):
        await git.reach(
            "https://example.org/x", "-c", "alias.say=!cat said >&2; false", "say", attempt=ATTEMPT, cwd=tmp_path
        )


async def test_an_answer_without_end_is_not_taken(tmp_path: Path) -> None:
    git = Git(Processes(base_env=minimal_env(os.environ, home=tmp_path)), most_said_chars=5)

    with pytest.raises(GitFailed, match=r"git version: .* it says more than 5 characters"):
        await git.run("version", attempt=ATTEMPT, cwd=tmp_path)


async def test_a_host_that_does_not_answer_is_worth_another_try(git: Git, tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable) as caught:
        await git.reach("https://127.0.0.1:9/x", "ls-remote", "https://127.0.0.1:9/x", attempt=ATTEMPT, cwd=tmp_path)

    assert caught.value.retryable
    assert failure_of(caught.value) is FailureClass.QUOTA


async def test_asking_a_repository_for_what_it_lacks_runs_nothing_that_it_names(git: Git, tmp_path: Path) -> None:
    place, ran = tmp_path / "r", tmp_path / "ran"
    await git.run("init", "--quiet", str(place), attempt=ATTEMPT, cwd=tmp_path)
    (place / ".git" / "config").write_text(
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = o\n"
        f'[remote "o"]\n\tpromisor = true\n\turl = {place}\n\tuploadpack = "touch {ran}; git-upload-pack"\n'
    )

    with pytest.raises(GitFailed):
        await git.run("rev-parse", "--verify", f"{'12' * 20}^{{commit}}", attempt=ATTEMPT, cwd=place)

    assert not ran.exists()
