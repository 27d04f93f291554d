"""A secret of a sidecar that its work gets hold of and shouts out in every way: it is found nowhere afterwards."""

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.support.mesh import Mesh, mesh, until
from tests.support.ollama_server import Reply
from tests.support.turns import Turns

CANARY: Final = "canary-Sx7!pQ/9zW+4vT%2k"
TOKEN: Final = "ghp_" + "Ab3dEf6h" * 5

WORK: Final = """
import base64, json, sys, time, urllib.parse
secret, token = (bytes(b ^ 1 for b in bytes.fromhex(text)).decode() for text in ("{secret}", "{token}"))
print("plain", secret, flush=True)
sys.stdout.write("halves " + secret[:9]); sys.stdout.flush(); time.sleep(0.4); print(secret[9:], flush=True)
print("coded", *(base64.b64encode((before + secret).encode()).decode() for before in ("", "u:", "me:")))
print("written", json.dumps(secret), urllib.parse.quote(secret, safe=""), secret.encode().hex())
print("token", token, flush=True)
open("kept.txt", "w").write("x" * 262140 + secret + " and " + secret.encode().hex())
print("y" * 70000 + secret + "z" * 65530, flush=True)
sys.exit("it failed because of " + secret + " and " + token)
"""


def forms(secret: str = CANARY) -> list[bytes]:
    """The secret as it could be found: whole, or the inside of its base64 at each alignment."""
    raw = secret.encode()
    found = [
        raw,
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        raw.hex().encode(),
        TOKEN.encode(),
    ]
    found += [base64.b64encode((before + secret).encode())[6:-6] for before in ("", "u:", "me:")]
    return [*found, secret[8:].encode(), secret[:-8].encode()]


def holders(folder: Path, secret: str = CANARY) -> list[tuple[str, bytes]]:
    """Files below ``folder`` that hold it."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not {"work", "one.toml"} & {*path.relative_to(folder).parts}
    ]
    return [(str(path), form) for path in files for form in forms(secret) if form in path.read_bytes()]


def hidden(text: str) -> str:
    return bytes(byte ^ 1 for byte in text.encode()).hex()


KEPT: Final = "kept-Qy3&mZ/1aB+8uC%5d"
SAYS: Final = """
echo plain $DEPLOY; printf %s "$DEPLOY" | base64; printf %s "u:$DEPLOY" | base64; echo $DEPLOY > kept.txt
"""


def test_a_secret_of_the_keystore_is_in_the_hands_of_the_work_and_nowhere_else(tmp_path: Path) -> None:
    shown = {"length": f"test ${{#DEPLOY}} -eq {len(KEPT)}", "unset": 'test -z "$DEPLOY"'}
    with mesh(tmp_path, "One") as running:
        running.call("PUT", "/api/v1/secrets/KEY", {"value": KEPT})
        uses = [{"name": "KEY", "env": "DEPLOY"}]
        work = running.submit(
            command=f"{shown['length']} && {{ {SAYS} }}",
            secrets=uses,
            artifacts=["kept.txt"],
            verification=[{"type": "command_succeeds", "command": shown["unset"]}],
            budget={"fix_attempts": 0},
        )
        (done,) = running.wait(work)
        (broken,) = running.wait(running.submit(command='echo "$DEPLOY" >&2; exit 3', secrets=uses, max_retries=0))
        (beside,) = running.wait(running.submit(command=shown["unset"]))
        logs = running.call("GET", f"/api/v1/tasks/{work}/logs")["logs"]
        (kept,) = running.call("GET", f"/api/v1/tasks/{work}/artifacts")["artifacts"]
        file = _downloaded(running, kept["id"])
        running.call("POST", "/api/v1/backups")
        audit = running.call("GET", "/api/v1/audit")["entries"]
        told = json.dumps([done, broken, beside, running.events(), logs, audit, running.logs()])
        in_files = holders(tmp_path, KEPT)

    assert done["state"] == "completed", done["reason"]
    assert (broken["state"], beside["state"]) == ("dead", "completed")
    assert "plain [secret]" in "".join(piece["text"] for piece in logs)
    assert file == b"[secret]\n"
    released = [
        (entry["subject"], entry["detail"]["secrets"]) for entry in audit if entry["action"] == "secret.release"
    ]
    assert sorted(released) == sorted([(work, ["KEY"]), (broken["id"], ["KEY"])])
    assert [form for form in forms(KEPT) if form.decode() in told] == []
    assert in_files == holders(tmp_path, KEPT) == []


def test_a_secret_that_work_shouts_out_is_found_nowhere(tmp_path: Path) -> None:
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        running.start_sidecar("One", env={"SOME_API_KEY": CANARY})
        running.wait_agents("One")
        script = WORK.replace("{secret}", hidden(CANARY)).replace("{token}", hidden(TOKEN))
        task = running.submit(
            command=f"python3 -c '{script}'",
            artifacts=["kept.txt"],
            verification=[{"type": "command_succeeds", "command": f"python3 -c '{script}'"}],
            max_retries=0,
            budget={"fix_attempts": 0},
        )
        (done,) = running.wait(task)
        logs = running.call("GET", f"/api/v1/tasks/{task}/logs")["logs"]
        told = json.dumps([done, running.events(), logs, running.logs()])
        (kept,) = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]
        output = "".join(piece["text"] for piece in logs)
    finally:
        running.stop()

    assert done["state"] in {"failed", "dead"}
    assert [form for form in forms() if form.decode() in told] == []
    assert holders(tmp_path) == []
    assert kept["size_bytes"] < 262140 + 2 * len(CANARY) + 30
    for word in ("plain", "halves", "coded", 'written "[secret]"', "token"):  # the rest of what it said is there
        assert f"{word} [secret]" in output
    assert "it failed because of [secret]" in output


SHOUTS: Final = """
secret, token = (bytes(b ^ 1 for b in bytes.fromhex(text)).decode() for text in ("{secret}", "{token}"))
print(secret, token)
open("kept.bin", "wb").write(bytes(300000) + secret.encode() + bytes(9))
open("told.txt", "w").write(secret + " " + token)
"""


class Blabs(Turns):
    """A model whose work meets the secret in its first turn and reads it again in the second; at last it breaks."""

    def _reply(self, body: dict[str, Any]) -> Reply:
        if "Break" in json.dumps(body["messages"]):
            return Reply(status=400, error=f"the key {CANARY} is not valid, nor is {TOKEN}")
        return super()._reply(body)


def shout(turn: int) -> tuple[str, dict[str, Any]]:
    script = SHOUTS.replace("{secret}", hidden(CANARY)).replace("{token}", hidden(TOKEN))
    return ("run", {"command": f"python3 -c '{script}'"}) if turn == 1 else ("read", {"path": "told.txt"})


def test_a_secret_that_a_model_meets_is_in_no_conversation_that_is_kept_and_in_no_error(tmp_path: Path) -> None:
    with Blabs(last=2, holds={3}, call=shout) as model:
        running = Mesh(tmp_path, lease_s=30.0)
        try:
            running.start_hub()
            config = model.config(tmp_path / "one.toml")
            running.start_sidecar("One", "--config", config, env={"SOME_API_KEY": CANARY})
            running.wait_agents("One")
            until(lambda: running.call("GET", "/api/v1/models")["models"], "the model is reported")
            task = running.submit(prompt="Look around", executor="agent", artifacts=["kept.bin"])
            until(lambda: 3 in model.asked, "two turns are done and kept")
            progress = running.task(task)["progress"]
            conversation = _downloaded(running, progress["transcript"])
            in_between = holders(tmp_path)
            model.release()
            (done,) = running.wait(task)
            kept = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]
            binary = _downloaded(running, next(file["id"] for file in kept if file["path"] == "kept.bin"))
            (broken,) = running.wait(running.submit(prompt="Break", executor="chat", max_retries=0), timeout_s=90)
            logs = [running.call("GET", f"/api/v1/tasks/{each}/logs")["logs"] for each in (task, broken["id"])]
            told = json.dumps([done, broken, running.events(), logs, running.logs()])
        finally:
            running.stop()

    assert done["state"] == "completed", done["reason"]
    assert progress["turn"] == 2
    assert conversation.count(b"[secret] [secret]") >= 2  # what the command said, and what was read
    assert binary == bytes(300000) + b"*" * len(CANARY) + bytes(9)
    assert broken["state"] in {"failed", "dead"}
    assert "the key [secret] is not valid" in told
    assert [form for form in forms() if form.decode() in told] == []
    assert in_between == holders(tmp_path) == []


def _downloaded(running: Mesh, artifact: str) -> bytes:
    url = f"{running.url}/api/v1/artifacts/{artifact}/download"
    request = urllib.request.Request(url)  # noqa: S310 - always http on loopback
    request.add_header("Authorization", f"Bearer {running.token()}")
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
        return bytes(answer.read())
