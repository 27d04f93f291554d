"""What a machine has that tasks may want: GPUs and their memory, models, coding agents, and how work is confined.

A first look for the person who adds it; the sidecar looks by itself, thoroughly and again and again.
"""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Final

from provisioning.settings import ollama_host
from sidecar.places import ollama_url

_ASK_S: Final = 3.0
_AGENTS: Final = ("claude", "codex", "gemini", "opencode", "goose")


def detected() -> list[str]:
    """What was found, in a few words each."""
    return [_gpus(), _ollama(ollama_host()), _agents(), _sandbox()]


def _gpus() -> str:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S * 3, check=True)
    except (OSError, subprocess.SubprocessError):
        return "no NVIDIA GPU"
    rows = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line]
    return ", ".join(f"{name.strip()} {float(mib) / 1024:.0f} GiB" for name, mib in rows) or "no NVIDIA GPU"


def _ollama(host: str) -> str:
    url = ollama_url(host)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/api/tags", timeout=_ASK_S) as answer:
            names = [str(model.get("name", "")) for model in json.load(answer).get("models", [])]
    except (OSError, ValueError, urllib.error.URLError, AttributeError):
        return "no Ollama"
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004 - a line
    return f"Ollama with {shown or 'no model yet'}"


def _agents() -> str:
    there = [name for name in _AGENTS if shutil.which(name)]
    return f"agents: {', '.join(there)}" if there else "no coding agent"


def _sandbox() -> str:
    """The best that is here; the sidecar tries it, and the first task runs in it."""
    if sys.platform == "darwin":
        return "work in Seatbelt"
    return "work in bubblewrap" if shutil.which("bwrap") else "no bubblewrap: work in Landlock, if the kernel has it"
