import pytest

from protocol import git

GOOD = [
    "https://example.org/a/b.git",
    "https://example.org:8443/r",
    "ssh://git@example.org/r",
    "git@example.org:a/b.git",
    "/srv/r.git",
    "file:///srv/r.git",
]
BAD = [
    "",
    "-oProxyCommand=id",
    "--upload-pack=id",
    "ext::sh -c id",
    "fd::17",
    "http://example.org/r",
    "git://example.org/r",
    "https://user:secret@example.org/r",
    "https://token@example.org/r",
    "https://example.org",
    "https://-x/r",
    "ssh://-oProxyCommand=id/r",
    "git@-x:r",
    "git@example.org:-r",
    "file://host/r",
    "a b",
    "a\nb",
    "../r",
]


@pytest.mark.parametrize("address", GOOD)
def test_an_ordinary_address_has_no_problem(address: str) -> None:
    assert git.address_problem(address) == ""


@pytest.mark.parametrize("address", BAD)
def test_what_git_would_take_for_something_else_is_no_address(address: str) -> None:
    assert git.address_problem(address)


@pytest.mark.parametrize("name", ["-d", "a..b", "HEAD", "@", "a b", "a.lock", "a~1", "/a", "a/", ".a", "", "x" * 2000])
def test_what_is_no_branch_is_none(name: str) -> None:
    assert not git.is_branch(name)


def test_every_switch_is_given_before_the_command() -> None:
    words = git.command("--git-dir=/x", "status")

    assert words[:2] == ["git", "--no-pager"]
    assert words[-2:] == ["--git-dir=/x", "status"]
    assert [word for word in words if word != "-c"][2:-2] == list(git.SWITCHES)
    assert git.action(("--git-dir=/x", "status")) == "status"
    assert git.action(()) == ""


@pytest.mark.parametrize(
    "text, shown",
    [
        ("https://user:secret@example.org/r", "https://***@example.org/r"),
        ("https://token@example.org/r", "https://***@example.org/r"),
        ("https://user:se@cret@example.org/r", "https://***@example.org/r"),
        ("ssh://git@example.org/r", "ssh://git@example.org/r"),
        ("ssh://git:secret@example.org/r", "ssh://git:***@example.org/r"),
        ("git@example.org:r", "git@example.org:r"),
        ("fatal: 'HTTPS://u:p@h/r' and https://v:q@h/s", "fatal: 'HTTPS://***@h/r' and https://***@h/s"),
        ("https://example.org/a@b", "https://example.org/a@b"),
    ],
)
def test_credentials_of_addresses_are_covered(text: str, shown: str) -> None:
    assert git.masked(text) == shown
    assert git.has_login(text) == (text != shown)


@pytest.mark.parametrize(
    "address, parts",
    [
        ("https://a:b@h/r", ("https://h/r", "a", "b")),
        ("https://a%40x:b%2Fc@h:1/r", ("https://h:1/r", "a@x", "b/c")),
        ("https://token@h/r", ("https://h/r", "token", "")),
        ("https://h/r@2", ("https://h/r@2", "", "")),
        ("ssh://git@h/r", ("ssh://git@h/r", "", "")),
    ],
)
def test_an_address_is_parted_from_its_credentials(address: str, parts: tuple[str, str, str]) -> None:
    assert git.split_login(address) == parts


@pytest.mark.parametrize(
    "said, trouble",
    [
        ("fatal: repository 'x' not found", "missing"),
        ("fatal: Authentication failed for 'x'", "refused"),
        ("fatal: unable to access 'x'", "unreachable"),
        ("error: something else", ""),
    ],
)
def test_the_trouble_with_a_repository_is_known_by_the_words_of_git(said: str, trouble: str) -> None:
    assert git.trouble_of(said) == trouble


def test_the_words_of_git_become_one_line_without_hints_and_credentials() -> None:
    said = "fatal: unable to access 'https://u:p@h/r'\nPlease make sure you have the correct access rights\n"

    assert git.one_line(said) == "unable to access 'https://***@h/r'"
