"""What of the environment counts for a machine that joins, and the only place here that reads it."""

import os
from collections.abc import Mapping

from provisioning.places import Places, places_of


def load(env: Mapping[str, str] | None = None, *, config: str = "", state_dir: str = "") -> Places:
    """Where things of this machine lie, for this user."""
    return places_of(os.environ if env is None else env, is_root=os.geteuid() == 0, config=config, state_dir=state_dir)


def ollama_host(env: Mapping[str, str] | None = None) -> str:
    """Where Ollama listens, if somebody has said so."""
    return (os.environ if env is None else env).get("OLLAMA_HOST", "")
