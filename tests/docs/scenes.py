"""What a page takes for granted, page by page: the reader's own names, and what is there before the first command."""

import shutil
import urllib.request
from collections.abc import Callable
from typing import Final

import msgspec

from protocol.model import AgentState
from protocol.pulls import PullState
from tests.docs.commands import ROOT
from tests.docs.reader import PATIENCE_S, SITE, Names, Reader
from tests.support.certificates import self_signed
from tests.support.joiner import Machine
from tests.support.mesh import until
from tests.support.repositories import Remote, git

_REQUESTS: Final = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2024-05-10 00:00:{second:02}.0,{400 + second},{20 + second}\n" for second in range(40)
)


def _a_task(reader: Reader) -> Names:
    """A page about some task."""
    task = reader.task("--shell 'echo hello'")
    reader.waits(task, "completed")
    return {"01m7yb3s…": task, "5kq2": task, "TASK": task, "ID": task}


def _waits(reader: Reader) -> str:
    """A task that nobody can do yet."""
    return reader.task("--shell true --needs patience")


def _newest(reader: Reader) -> str:
    with reader.client() as client:
        return next(client.tasks()).id


def _machines(reader: Reader) -> Names:
    """A machine that asks to be let in."""

    def asks() -> str:
        body = msgspec.json.encode(Machine().body())
        place, kind = f"{reader.hub}/api/v1/join-requests", {"Content-Type": "application/json"}
        request = urllib.request.Request(place, body, kind)  # noqa: S310 - loopback
        urllib.request.urlopen(request).close()  # noqa: S310 - loopback
        return str(reader.does("agentcom machines ls")["join_requests"][0]["code"])

    return {"z9456-dejvt": asks}


def _backups(reader: Reader) -> Names:
    """A hub that has run on DIR and has ended."""
    folder = reader.at / "dir"
    reader.starts(f"agentcom hub --data-dir {folder}")
    reader.end()

    def restored() -> str:
        newest = max((folder / "backups").glob("*.sqlite"))
        return f"agentcom restore --yes {newest} --data-dir {folder}"  # nobody is there to answer

    return {
        "/mnt/safe": str(reader.at),
        "agentcom backup --data-dir DIR": f"agentcom backup --data-dir {folder}",
        "agentcom restore DIR/backups/hub-20261121T083000.123Z.sqlite --data-dir DIR": restored,
        "DIR": str(reader.at / "new"),
    }


def _budgets(reader: Reader) -> Names:
    """An endpoint that was added by hand."""
    reader.does(f"agentcom endpoints add ollama {reader.ollama} --id claude-proxy")
    tokens = reader.does("agentcom token ls")["tokens"]
    return {"7dk2m0q1x8ab": str(tokens[0]["id"])} | _a_task(reader)


def _checks(reader: Reader) -> Names:
    """A repository with a mistake, and work that waits for a person."""
    repository = reader.home / "src" / "checked"
    git(reader.home / "src", "clone", "--quiet", "project", str(repository))
    (repository / "check.sh").write_text("exit 0\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "A check")

    def in_doubt() -> str:
        work = f"--shell 'echo true >> check.sh' --repo {repository} --verify 'sh check.sh' --fix-attempts 0"
        task = reader.task(work)
        reader.waits(task, "waiting")
        return task

    return {"/srv/git/calc.git": str(repository), "show TASK": lambda: f"show {_newest(reader)}", "TASK": in_doubt}


def _endpoints(reader: Reader) -> Names:
    return {
        "http://10.0.0.9:11434": reader.ollama,
        "http://10.0.0.10:11434": reader.ollama,
        "http://10.0.0.9:9": "http://127.0.0.1:9",
    }


def _host(reader: Reader) -> Names:
    with reader.client() as client:
        return {"NAME": client.hosts().hosts[0].name}


def _files(reader: Reader) -> Names:
    """The task that the first command of the page submits."""
    return {"TASK": lambda: _newest(reader)}


def _pauses(reader: Reader) -> Names:
    """A task that waits for its turn, and a sidecar of this machine's own."""
    with reader.client() as client:
        name = next(agent.name for agent in client.agents().agents if agent.state is AgentState.IDLE)
    reader.starts(f"agentcom sidecar --hub {reader.hub} --token-file {reader.data}/agent.token")
    return {"TASK": _waits(reader), "NAME": name}


def _site(reader: Reader) -> Remote:
    """The repository at the forge, its files as they were at first: pages come in any order, and one merges."""
    remote = reader.forge.git.remote
    git(remote.clone, "fetch", "--quiet", "origin", "main")
    git(remote.clone, "reset", "--quiet", "--hard", "FETCH_HEAD")
    remote.commit(SITE)
    return remote


def _projects(reader: Reader) -> Names:
    _site(reader)
    (reader.at / "new.css").write_text("a { color: blue }\n")
    return {"https://example.org/site.git": reader.forge.address}


def _pulls(reader: Reader) -> Names:
    """A copy of the repository with a change, and work that touches what is protected."""
    remote = _site(reader)
    copy = reader.at / "copy"
    git(reader.at, "clone", "--quiet", str(remote.path), str(copy))
    git(copy, "remote", "set-url", "origin", reader.forge.address)
    git(copy, "config", "user.name", "Ann")
    git(copy, "config", "user.email", "ann@example.org")
    reader.at = copy

    def draft() -> str:
        task = reader.task("--shell 'mkdir -p src/auth && date > src/auth/x' --project site --verify 'test -d src'")
        reader.waits(task, "completed")
        with reader.client() as client:
            until(lambda: client.pull(task).state is PullState.DRAFT, "a draft", timeout_s=PATIENCE_S)
        return task

    def mended() -> str:
        (copy / "src" / "footer.css").write_text("a { color: green }\n")
        return "git commit -am"

    address = "https://robot:TOKEN@forge.example.org/people/site.git"
    return {address: reader.forge.address, "approve TASK": lambda: f"approve {draft()}", "git commit -am": mended}


def _specs(reader: Reader) -> Names:
    """The file of tasks that the page shows."""
    text = (ROOT / "docs" / "how-to" / "submit.md").read_text("utf-8")
    (reader.at / "tasks.json").write_text(text.partition("```json\n")[2].partition("```")[0])
    return {"agentcom tasks cancel TASK": lambda: f"agentcom tasks cancel {_waits(reader)}"} | _a_task(reader)


def _secrets(reader: Reader) -> Names:
    (reader.at / "key.pem").write_text("a key that nobody else has\n")
    return {}


def _hubs(reader: Reader) -> Names:
    shutil.copy(reader.data / "agent.token", reader.at / "agent.token")
    return {f"https://hub{number}.example.org:7420": reader.hub for number in (1, 2)}


def _simulates(reader: Reader) -> Names:
    (reader.at / "requests.csv").write_text(_REQUESTS)
    return {}


def _tls(reader: Reader) -> Names:
    certificate, key = self_signed(reader.at, "hub.example.org")
    certificate.rename(reader.at / "fullchain.pem")
    key.rename(reader.at / "privkey.pem")
    return {"10.0.0.1": "127.0.0.2"}


def _traces(reader: Reader) -> Names:
    return {"agentcom sidecar": f"agentcom sidecar --hub {reader.hub} --token-file {reader.data}/agent.token"}


SCENES: Final[dict[str, Callable[[Reader], Names]]] = {
    "README.md": _a_task,
    "docs/how-to/add-a-machine.md": _machines,
    "docs/how-to/backup-and-restore.md": _backups,
    "docs/how-to/budgets.md": _budgets,
    "docs/how-to/checks.md": _checks,
    "docs/how-to/choose-a-model.md": _a_task,
    "docs/how-to/endpoints.md": _endpoints,
    "docs/how-to/gpus.md": _host,
    "docs/how-to/keep-files.md": _files,
    "docs/how-to/pause-and-take-over.md": _pauses,
    "docs/how-to/projects.md": _projects,
    "docs/how-to/pull-requests.md": _pulls,
    "docs/how-to/secrets.md": _secrets,
    "docs/how-to/several-hubs.md": _hubs,
    "docs/how-to/simulate.md": _simulates,
    "docs/how-to/submit.md": _specs,
    "docs/how-to/tls.md": _tls,
    "docs/operate/logs-and-traces.md": _traces,
    "docs/reference/audit.md": _a_task,
}
"""Pages that are not here begin with nothing but the hub and its sidecar."""
