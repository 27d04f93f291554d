"""Which addresses and names are handed to git, what it is started with, and what of it people may see.

Pure: rules and lists; programs start git themselves (``sidecar/git.py``, ``hub/git.py``). With :data:`SWITCHES` and
:data:`ENV` git reads neither the system's nor the user's configuration, runs no hook, no file system monitor, no
external diff and no pager, asks no question, follows no submodule, and speaks only file, https and ssh.
"""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from protocol.limits import MAX_PATH_CHARS

STALL_S: Final = 30
"""A transfer slower than 1 kB/s for so long is given up; an ssh connection must stand within it."""

SWITCHES: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.excludesFile=/dev/null",  # by default in HOME, which all work shares and may write
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=",
    "credential.helper=",
    "protocol.ext.allow=never",
    "safe.bareRepository=explicit",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.bundleURI=",
    "transfer.bundleURI=false",
    "push.recurseSubmodules=no",
    "diff.ignoreSubmodules=all",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1000",
    f"http.lowSpeedTime={STALL_S}",
)
_RECEIVING: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=true",
    "core.sshCommand=false",
    "receive.autogc=false",
    "receive.denyCurrentBranch=refuse",  # updateInstead would check files out, through filters that it defines
    "gc.auto=0",
    "maintenance.auto=false",
)
"""What a repository on this disk is told that we push to. Git starts another git there, which forgets our switches and
obeys that repository's own configuration and hooks; and whoever can write files can have made that repository."""
ENV: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a replacement that work has made would change what every commit holds
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",  # what git says is matched by those who call it
}
SSH: Final = f"ssh -oBatchMode=yes -oConnectTimeout={STALL_S} -oServerAliveInterval={STALL_S}"

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SCP_LIKE: Final = re.compile(r"(?P<user>[^@:/]+)@(?P<host>[^@:/]+):(?P<path>[^-:/][^:]*|/[^:]*)")
# The rules of git-check-ref-format(1), and no leading dash or dot.
_BRANCH: Final = re.compile(
    r"(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))"
    r"[^\x00-\x20\x7f~^:?*\[\\/.-]"
    r"(?:[^\x00-\x20\x7f~^:?*\[\\]*[^\x00-\x20\x7f~^:?*\[\\/.])?"
)
_LOGIN: Final = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,30})://(?P<login>[^\s/'\"<>]{0,2048})@")
_MISSING: Final = re.compile(
    r"does not appear to be a git repository|repository '[^'\n]{0,1100}' not found|repository not found"
    r"|not found: did you run"
    r"|HTTP 404|returned error: 404|does not exist|project you were looking for could not be found",
    re.IGNORECASE,
)
_REFUSED: Final = re.compile(
    r"authentication failed|could not read (?:username|password)|permission denied|host key verification failed"
    r"|returned error: 40[13]|access denied|dubious ownership",
    re.IGNORECASE,
)
_UNREACHABLE: Final = re.compile(
    r"could not read from remote|unable to access|could not resolve|early EOF|timed out|RPC failed|hung up",
    re.IGNORECASE,
)


def command(*arguments: str) -> list[str]:
    """The command line for git with our switches before ``arguments``."""
    return ["git", "--no-pager", *(part for switch in SWITCHES for part in ("-c", switch)), *arguments]


def receiving(address: str) -> tuple[str, ...]:
    """What ``git push`` has to be given besides, so that a repository on this disk makes it run nothing."""
    if not address.startswith("/"):
        return ()  # elsewhere it would be a command for the remote
    switches = " ".join(f"-c {switch}" for switch in _RECEIVING)
    return (f"--receive-pack=git {switches} receive-pack",)


def action(arguments: tuple[str, ...]) -> str:
    """The name of the command in ``arguments``, for messages: the first word that is no switch."""
    return next((word for word in arguments if not word.startswith("-")), "")


def address_problem(text: str) -> str:
    """What is wrong with the address of a repository, empty if nothing.

    Good are https and ssh URLs, ``user@host:path``, absolute paths and ``file://`` with one.
    """
    path = text.startswith("/")
    if not text or len(text) > MAX_PATH_CHARS:
        problem = f"an address has 1 to {MAX_PATH_CHARS} characters"
    elif text.startswith("-"):
        problem = "an address does not begin with a dash"
    elif re.search(r"[\x00-\x1f\x7f]", text) or (not path and re.search(r"[ \\]", text)):
        problem = "an address holds no blank, backslash or control character"
    elif path:
        problem = ""
    elif "::" in text.partition("/")[0]:
        problem = "remote helpers (transport::address) are refused"
    elif "://" in text:
        problem = _url_problem(text)
    else:
        match = _SCP_LIKE.fullmatch(text)
        known = match and _USER.fullmatch(match["user"]) and _HOST.fullmatch(match["host"])
        problem = "" if known else "this is neither an address nor an absolute path"
    return problem


def is_branch(name: str) -> bool:
    """Whether git takes ``name`` for the name of a branch."""
    return len(name) <= MAX_PATH_CHARS and _BRANCH.fullmatch(name) is not None and name not in {"@", "HEAD"}


def _url_problem(text: str) -> str:
    try:
        parts = urlsplit(text)
        port, user, password = parts.port, parts.username, parts.password
    except ValueError as exc:
        return str(exc)
    if parts.scheme == "file":
        return "" if text.startswith("file:///") else "a file:// address names an absolute path and no host"
    host = parts.netloc.rpartition("@")[2].removesuffix("" if port is None else f":{port}")
    problem = ""
    if parts.scheme not in {"https", "ssh"}:
        problem = f"the scheme {parts.scheme[:20]!r} is refused"
    elif password is not None or (user and parts.scheme == "https"):
        problem = "an address carries no credentials; they belong in the sidecar user's ~/.netrc or ssh key"
    elif not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(user)):
        problem = "its host or user is no name"
    elif parts.path.strip("/") in {"", ".", ".."} or parts.query or parts.fragment:
        problem = "it names no repository on the host"
    return problem


# --- credentials ------------------------------------------------------------------------------------------------------


def split_login(address: str) -> tuple[str, str, str]:
    """The address without credentials, user and password; both are empty if it carries none.

    Only https addresses carry credentials that git would use; in any other, what stands there stays and is refused.
    """
    if not address.startswith("https://"):
        return address, "", ""
    netloc, slash, path = address.removeprefix("https://").partition("/")
    login, at, host = netloc.rpartition("@")
    if not at:
        return address, "", ""
    user, _, password = login.partition(":")
    return f"https://{host}{slash}{path}", unquote(user), unquote(password)


def has_login(address: str) -> bool:
    """Whether an address carries what is somebody's secret."""
    return masked(address) != address


def masked(text: str) -> str:
    """``text`` without the credentials of the addresses in it: https ones lose user and password, others the password.

    What a user name of an https address means is the server's business: it is often the token itself.
    """

    def cover(found: re.Match[str]) -> str:
        user, colon, _ = found["login"].partition(":")
        if found["scheme"].lower() in {"ssh", "git+ssh", "ssh+git"}:
            return f"{found['scheme']}://{user}{':***' if colon else ''}@"
        return f"{found['scheme']}://***@"

    return _LOGIN.sub(cover, text)


# --- what git says ----------------------------------------------------------------------------------------------------


def trouble_of(said: str) -> str:
    """What keeps git from a repository: ``refused``, ``missing``, ``unreachable``, or empty: it is something else."""
    for name, pattern in (("refused", _REFUSED), ("missing", _MISSING), ("unreachable", _UNREACHABLE)):
        if pattern.search(said):
            return name
    return ""


def one_line(said: str) -> str:
    """Git's own words as one line, without credentials and its hint about access rights."""
    lines = (line.removeprefix("fatal: ").removeprefix("remote: ").strip() for line in said.splitlines())
    kept = (line for line in lines if line and not line.startswith(("Please make sure", "and the repository")))
    return masked("; ".join(kept))
