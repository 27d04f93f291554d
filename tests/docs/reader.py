"""Somebody who has only the pages: types what they print, where the README's ``agentcom up`` runs.

Commands are the installed program's, in a real shell, in a home of its own; what a command leaves (files, variables, a
program that goes on) is there for the next one of its page. What stands for somebody else's server, the forge and
Ollama, speaks its real protocol.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentcom import Client
from protocol.model import FINAL_STATES
from tests.docs.commands import ROOT, Said
from tests.support.bad_disk import need_programs
from tests.support.forge_server import ForgeServer, forge_server
from tests.support.mesh import ollama_process, until
from tests.support.repositories import CALC, TEST_OF_CALC, git

PATIENCE_S: Final = 240.0
UP: Final = "agentcom up"
GOES_ON: Final = re.compile(r"agentcom (hub|sidecar|up)( --|$)")
"""Commands that run until somebody ends them."""
_OURS: Final = ("AGENTCOM_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_", "OLLAMA_", "VIRTUAL_ENV", "XDG_")
_MAKEFILE: Final = """\
test:
\tpython3 -c 'import calc'

dist:
\tmkdir -p dist logs
\techo made > dist/a.whl
\techo log > logs/a
\ttar czf dist/a.tar.gz logs
"""
FILES: Final = {"calc.py": CALC, "test_calc.py": TEST_OF_CALC, "Makefile": _MAKEFILE}
SITE: Final = {"src/footer.css": "a { color: red }\n", "src/old.css": "b {}\n", "Makefile": "test:\n\ttest -d src\n"}

PROJECT: Final = "web"
"""The one project that all pages know."""

Names = Mapping[str, "str | Callable[[], str]"]
"""What stands on a page for something of the reader's own, and what that is; asked anew for each command."""


def _mends(when: str, path: str, old: str, new: str) -> list[dict[str, Any]]:
    """What the model does about one prompt, turn by turn."""
    calls = [["read", {"path": path}], ["edit", {"path": path, "old": old, "new": new}], ["finish", {"summary": "ok"}]]
    return [{"when": when, "tool_calls": [call]} for call in calls]


MODEL: Final = [
    *_mends("Fix the failing test", "calc.py", "a - b", "a + b") * 3,  # pages that ask for it
    *_mends("Repair add()", "calc.py", "a - b", "a + b"),
    {"text": "hello", "repeat": True},
]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.out}{self.err}"


class Reader:
    """The reader, at the first page; :meth:`turn` opens another one.

    Attributes:
        home: the home directory; ``~/src/project`` is a repository with a test that fails.
        at: where the reader stands.
    """

    def __init__(self, folder: Path, forge: ForgeServer, ollama: str) -> None:
        self.folder, self.forge, self.ollama = folder, forge, ollama
        self.home = folder / "home"
        self.data = self.home / ".local" / "share" / "agentcom"
        self._first = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OLLAMA_HOST": ollama,
            "GIT_SSL_CAINFO": str(forge.git.ca_file),
            "AGENTCOM_GIT_CA_FILE": str(forge.git.ca_file),
        }
        self.env = dict(self._first)
        self.at = self.home
        self._running: list[subprocess.Popen[bytes]] = []
        self._others = 0
        project = self.home / "src" / "project"
        project.mkdir(parents=True)
        (self.home / ".gitconfig").write_text("[user]\n\tname = Ann\n\temail = ann@example.org\n")
        for name, text in FILES.items():
            (project / name).write_text(text)
        git(project, "init", "--quiet", "--initial-branch=main")
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "--message", "Start")

    # --- pages ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self, page: str) -> Iterator[None]:
        """Read a page, from the top: in a folder of its own, with nothing that earlier pages have set."""
        self.env, self.at = dict(self._first), self.folder / re.sub(r"\W", "-", page)
        self.at.mkdir()
        (self.at / ".venv").symlink_to(sys.prefix)
        (self.at / "docs").symlink_to(ROOT / "docs")
        try:
            yield
        finally:
            self.end()
            self._tidy()

    def _tidy(self) -> None:
        """Take away what would change how other pages' tasks go."""
        with self.client() as client:
            for project in client.projects().projects:
                if project.name != PROJECT:
                    client.remove_project(project.name, force=True)
            for budget in client.budgets().budgets:
                client.remove_budget(budget.id)
            for task in client.tasks():
                if task.state not in FINAL_STATES:
                    client.cancel(task.id)

    def obeys(self, each: Said, names: Names) -> None:
        """Type a command of the page, with the reader's own names; it has to end as the page says."""
        text = self.own(each.text, names)
        if each.text == UP:
            return  # it runs: all pages are read with it
        if GOES_ON.match(text):
            self.starts(text)
            return
        done = self.types(text)
        assert (done.status != 0) is each.fails, f"{each}\n{text}\n{done}"

    def own(self, text: str, names: Names) -> str:
        """What the reader types where the page says this."""
        for name, value in names.items():
            whole = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
            if whole.search(text):
                own = value if isinstance(value, str) else value()
                text = whole.sub(lambda _, own=own: own, text)
        return text

    # --- commands -------------------------------------------------------------------------------------------------

    def types(self, text: str) -> Done:
        """Run a command in a shell; variables that it sets stay."""
        kept = self.folder / "variables"
        done = subprocess.run(
            ["sh", "-c", f"{text}\nstatus=$?\nenv -0 > '{kept}'\nexit $status"],
            cwd=self.at,
            env=self.env,
            input="a-secret-value\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        pairs = [line.partition("=") for line in kept.read_text().split("\0") if line]
        self.env = {name: value for name, _, value in pairs if name not in {"status", "PWD", "OLDPWD", "_", "SHLVL"}}
        return Done(done.returncode, done.stdout, done.stderr)

    def does(self, text: str) -> Any:  # noqa: ANN401 - any JSON
        """Run a command that is no page's, and has to go well; what it says as JSON."""
        done = self.types(f"{text} --json")
        assert done.status == 0, f"{text}\n{done}"
        return json.loads(done.out)

    def starts(self, text: str) -> None:
        """Start a program that goes on, and wait until it works; it ends with the block."""
        self._others += 1
        other = self.folder / f"other-{self._others}"
        said = other / "hub.json"
        env = dict(self.env)
        if " hub" in text:
            env |= {"AGENTCOM_LISTEN": "127.0.0.1:0"}
            if found := re.search(r"--data-dir (\S+)", text):
                said = self.at / found[1] / "hub.json"
            else:
                env["AGENTCOM_DATA_DIR"] = str(other)
            text = re.sub(r"(--listen [\d.]+):7420", r"\1:0", text)
            said.unlink(missing_ok=True)
        before = self.online() if " sidecar" in text else 0
        other.mkdir(exist_ok=True)
        with (other / "log").open("wb") as log:
            process = subprocess.Popen(["sh", "-c", f"exec {text}"], cwd=self.at, env=env, stdout=log, stderr=log)
        self._running.append(process)
        is_up = said.exists if " hub" in text else lambda: self.online() > before
        try:
            until(is_up, text, process, PATIENCE_S)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{(other / 'log').read_text(errors='replace')[-4_000:]}") from None

    def online(self) -> int:
        """Agents that the hub sees."""
        with self.client() as client:
            return sum(agent.state.value != "offline" for agent in client.agents().agents)

    @property
    def hub(self) -> str:
        """The address of the reader's hub."""
        return str(json.loads((self.data / "hub.json").read_text())["url"])

    def client(self) -> Client:
        """A client of the reader's hub."""
        return Client(data_dir=str(self.data))

    def end(self) -> None:
        """End what goes on, in order."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        statuses = [process.wait(PATIENCE_S) for process in self._running]
        self._running.clear()
        assert set(statuses) <= {0}, statuses

    # --- what pages begin with ------------------------------------------------------------------------------------

    def task(self, flags: str) -> str:
        """Submit a task; its id."""
        return str(self.does(f"agentcom submit {flags}")["id"])

    def waits(self, task: str, *states: str) -> None:
        """Wait until a task is in one of these states."""
        with self.client() as client:
            try:
                until(lambda: client.task(task).state.value in states, f"{task} {states}", timeout_s=PATIENCE_S)
            except AssertionError:
                raise AssertionError(f"{client.task(task)}\n{client.explain(task)}") from None


@contextlib.contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """A reader whose ``agentcom up`` runs."""
    need_programs("make")
    (folder / "forge").mkdir()
    with (
        forge_server(folder / "forge") as forge,
        ollama_process(folder / "model.json", MODEL, {"qwen3:8b": 5.0}) as ollama,
    ):
        forge.git.remote.commit(SITE)
        found = Reader(folder, forge, ollama)
        with (folder / "up.txt").open("wb") as said:
            up = subprocess.Popen([*UP.split(), "--port", "0"], cwd=found.home, env=found.env, stdout=said, stderr=said)
        try:
            until(lambda: "Stop" in (folder / "up.txt").read_text(), "the welcome", up, PATIENCE_S)
            found.does(f"agentcom projects add {PROJECT} https://example.org/web.git")
            yield found
        finally:
            up.send_signal(signal.SIGTERM)
            assert up.wait(PATIENCE_S) == 0
