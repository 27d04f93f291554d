"""Which model serves the demo: a running Ollama, else Claude, else a small real model of our own."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentcom import local_model

OLLAMA: Final = "http://127.0.0.1:11434"
START_S: Final = 60.0
LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Model:
    """What answers the prompts.

    Attributes:
        is_able: it may be trusted with repairing code.
        address: an endpoint that the hub has to be told about; empty if the sidecars find it by themselves.
    """

    says: str
    is_able: bool
    address: str = ""
    process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End the model, if it is ours."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def find(env: Mapping[str, str], folder: Path) -> Model:
    """The model to use; starts (and if need be installs) our own if there is no other.

    Raises:
        local_model.NoLocalModel: there is none and ours could not be started.
    """
    if names := _ollama_models(env.get("OLLAMA_HOST", OLLAMA)):
        return Model(f"Ollama, which runs here with {len(names)} models ({', '.join(names[:3])})", is_able=True)
    if env.get("ANTHROPIC_API_KEY"):
        return Model("Claude, with the key in ANTHROPIC_API_KEY", is_able=True)
    return _own(folder)


def _ollama_models(host: str) -> list[str]:
    address = host if "://" in host else f"http://{host}"
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/tags", timeout=LOOK_S) as answer:  # noqa: S310 - the user's
            return [str(model["name"]) for model in json.load(answer)["models"]]
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return []  # whatever is there does not answer as Ollama does


def _own(folder: Path) -> Model:
    if not local_model.is_installed():
        run = Path(__file__).parents[2] / "run"
        if not run.exists():
            message = "start Ollama or set ANTHROPIC_API_KEY; the small model comes with a checkout of the project"
            raise local_model.NoLocalModel(message)
        print("  no Ollama and no ANTHROPIC_API_KEY here: installing a small real model (about 200 MB, once)")
        subprocess.run([str(run), "_local"], check=True, stdin=subprocess.DEVNULL)
    with (folder / "model.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentcom.local_model", "--until-stdin-closes"],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.PIPE,
            start_new_session=True,
            env=dict(os.environ),
        )
    assert process.stdout is not None
    address = process.stdout.readline().decode().strip()
    if not address.startswith("http"):
        process.wait(START_S)
        message = f"the small model did not start; see {folder / 'model.log'}"
        raise local_model.NoLocalModel(message)
    says = f"{local_model.NAME}, small but real, in its own process (no Ollama, no ANTHROPIC_API_KEY): plumbing, no wit"
    return Model(says, is_able=False, address=f"{address}/v1", process=process)
