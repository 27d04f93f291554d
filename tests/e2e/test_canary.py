"""A secret of a sidecar that its work gets hold of and shouts out in every way: it is found nowhere afterwards."""

import base64
import json
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.support.mesh import Mesh

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


def forms() -> list[bytes]:
    """The secret as it could be found: whole, or the inside of its base64 at each alignment."""
    raw = CANARY.encode()
    found = [
        raw,
        quote(CANARY, safe="").encode(),
        json.dumps(CANARY)[1:-1].encode(),
        raw.hex().encode(),
        TOKEN.encode(),
    ]
    found += [base64.b64encode((before + CANARY).encode())[6:-6] for before in ("", "u:", "me:")]
    return [*found, CANARY[8:].encode(), CANARY[:-8].encode()]


def holders(folder: Path) -> list[tuple[str, bytes]]:
    """Files below ``folder`` that hold it."""
    files = [path for path in folder.rglob("*") if path.is_file() and "work" not in path.relative_to(folder).parts]
    return [(str(path), form) for path in files for form in forms() if form in path.read_bytes()]


def hidden(text: str) -> str:
    return bytes(byte ^ 1 for byte in text.encode()).hex()


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
