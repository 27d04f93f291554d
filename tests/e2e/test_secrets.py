"""Secrets with the real programs: in by standard input or a file, out in the environment of the work alone."""

import base64
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.support.mesh import Mesh, Refused, mesh, until, work_of

CANARY = "canary-Sx7!pQ/9zW+4vT%2k"
FORMS = CANARY.encode(), base64.b64encode(CANARY.encode())


def secret(running: Mesh, *words: str, value: str = "") -> subprocess.CompletedProcess[bytes]:
    """``agentcom secret ...``, with this on its standard input."""
    env = {key: word for key, word in os.environ.items() if not key.startswith("AGENTCOM_")}
    where = {"AGENTCOM_HUB": running.url, "AGENTCOM_TOKEN_FILE": str(running.data_dir / "admin.token")}
    return subprocess.run(
        [sys.executable, "-m", "agentcom", "secret", *words],
        input=value.encode(),
        env=env | where,
        capture_output=True,
        timeout=60,
        check=False,
    )


def spoils(folder: Path) -> list[Path]:
    """Files that hold the value."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return [file for file in files if any(form in file.read_bytes() for form in FORMS)]


def holders(what: str) -> dict[int, dict[str, str]]:
    """Environments of all processes of this machine that hold the value in ``what`` (``environ`` or ``cmdline``)."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if CANARY.encode() in Path(f"/proc/{process.pid}/{what}").read_bytes():
                found[process.pid] = process.environ()
    return found


def test_a_value_comes_from_standard_input_or_a_file_and_no_answer_shows_it(tmp_path: Path) -> None:
    (tmp_path / "value.txt").write_text(CANARY)
    with mesh(tmp_path / "mesh") as running:
        said = [
            secret(running, "set", "PIPED", value=f"{CANARY}\n"),
            secret(running, "set", "FILED", "--from-file", str(tmp_path / "value.txt"), "--project", "web", "--json"),
            secret(running, "set", "PIPED", value=f"{CANARY}\n"),
            secret(running, "ls"),
            secret(running, "rotate"),
            secret(running, "rm", "FILED"),
            secret(running, "ls", "--json"),
        ]
        wrong = [
            secret(running, "set", "PIPED", CANARY),  # an argument is none
            secret(running, "set", "a-b", value=CANARY),
            secret(running, "set", "GONE", "--from-file", str(tmp_path / "nowhere")),
            secret(running, "rm", "NONE"),
        ]

        assert [done.returncode for done in said] == [0] * 7, [done.stderr for done in said]
        assert b"PIPED: value 1, for tasks of any project" in said[0].stdout
        assert b"value 2" in said[2].stdout
        assert b"FILED" not in said[-1].stdout
        assert all(done.returncode for done in wrong)
        assert not any(form in done.stdout + done.stderr for done in said for form in FORMS)
        assert spoils(tmp_path / "mesh") == []


def test_the_value_is_in_the_environment_of_the_work_and_in_no_other_process(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with mesh(tmp_path / "mesh", "Keeper") as running:
        assert secret(running, "set", "TOKEN", value=CANARY).returncode == 0
        command = f'printf %s "$X" | sha256sum > {told} && sleep 600'
        task = running.submit(command=command, secrets=[{"name": "TOKEN", "env": "X"}])
        until(lambda: told.exists() and told.read_text(), "the work has its secret", running.sidecars["Keeper"])
        until(lambda: work_of(task), "it is seen")
        in_environ, in_cmdline = holders("environ"), holders("cmdline")
        backup = running.call("POST", "/api/v1/backups")
        running.call("POST", f"/api/v1/tasks/{task}/cancel", {})
        running.wait(task)
        until(lambda: not holders("environ"), "nothing of it is left")

        assert told.read_text().split()[0] == hashlib.sha256(CANARY.encode()).hexdigest()
        assert in_environ
        assert {environ.get("AGENTCOM_TASK") for environ in in_environ.values()} == {task}
        assert in_cmdline == {}
        daemons = {running.hub and running.hub.pid, running.sidecars["Keeper"].pid}
        assert daemons.isdisjoint(in_environ)
        assert backup
        assert list((running.data_dir / "backups").iterdir())
    assert spoils(tmp_path) == []


def test_a_key_file_that_is_exchanged_while_the_hub_is_killed_opens_everything(tmp_path: Path) -> None:
    """kill -9 at random moments of an exchange: the next start ends it, and no value is lost."""
    chance = random.Random(5)
    names = [f"S{number}" for number in range(40)]
    with mesh(tmp_path, "Keeper") as running:
        for name in names:
            running.call("PUT", f"/api/v1/secrets/{name}", {"value": CANARY})
        ended = 0
        for _ in range(5):

            def exchange() -> None:
                nonlocal ended
                with contextlib.suppress(OSError, Refused, ValueError):  # it was killed
                    running.call("POST", "/api/v1/keystore/rotate")
                    ended += 1

            asked = threading.Thread(target=exchange)
            asked.start()
            asked.join(chance.uniform(0.0, 0.25))  # the moment of the kill is the fault, not a wait for something
            running.kill(running.hub)
            asked.join()
            running.start_hub()
            until(lambda: len((running.data_dir / "keystore.key").read_bytes().split()) == 1, "the exchange has ended")
            views = running.call("GET", "/api/v1/secrets")["secrets"]
            assert [view["is_readable"] for view in views] == [True] * len(names)
        running.wait_agents("Keeper")
        uses = [{"name": name, "env": name} for name in names[:16]]
        same = " && ".join(f'[ "${name}" = "$S0" ]' for name in names[:16])
        [done] = running.wait(running.submit(command=f'{same} && [ -n "$S0" ]', secrets=uses))

        print(f"\n5 kills, {ended} exchanges were through before")
        assert done["state"] == "completed", done["reason"]


def test_keys_come_from_a_credential_of_systemd(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "agentcom-keystore").write_bytes(base64.b64encode(bytes(range(32))) + b"\n")
    with mesh(tmp_path / "mesh", hub_env={"CREDENTIALS_DIRECTORY": str(credentials)}) as running:
        assert secret(running, "set", "TOKEN", value=CANARY).returncode == 0
        with pytest.raises(Refused) as refused:
            running.call("POST", "/api/v1/keystore/rotate")
        readable = running.call("GET", "/api/v1/secrets/TOKEN")["is_readable"]
        running.kill(running.hub)
        running.hub_env = None
        running.start_hub()
        without = running.call("GET", "/api/v1/secrets/TOKEN")["is_readable"]

        assert (refused.value.problem["code"], readable, without) == ("keys_given", True, False)
        assert not (running.data_dir / "keystore.key").exists()
    assert spoils(tmp_path) == []
