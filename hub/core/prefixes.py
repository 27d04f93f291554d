"""Which prompts begin alike, and which server has read such a beginning last.

A server keeps what it has worked out of the prompts in its memory, one for each request that it answers at a time, and
reads a new prompt only from where it differs from one of them. So a task is done sooner where another has left its
beginning, or an earlier attempt at the same task has. A prompt is known here by the checksums of its leading blocks:
that two are equal says that the text before is, too, for what a wrong guess costs.

In memory and bounded: what was left out, or was before the hub started, is read as if nobody had seen it. Whether a
server really keeps prompts is measured (:meth:`hub.core.speeds.Speeds.reuse`). Callers: ``hub/services/intake.py``
tells the prompts, the board of the scheduler asks, whoever gives a task away says where it will be read.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from hub.core.routing import CHARS_PER_TOKEN
from protocol.model import TaskSpec

Blocks = tuple[int, ...]
"""Checksums of the leading blocks of a prompt, in order; a block that is not whole has none."""
Place = tuple[tuple[str, str], str]
"""A server and a model."""

BLOCK_TOKENS: Final = 512
"""What one block stands for."""
BLOCK_CHARS: Final = int(BLOCK_TOKENS * CHARS_PER_TOKEN)
MAX_BLOCKS: Final = 160
"""Of one prompt: what a task may say at most."""
MAX_WAITING: Final = 200_000
"""Blocks of prompts that are remembered for tasks; who was told of longest ago goes first."""
MAX_READ: Final = 200_000
MAX_PLACES: Final = 2_048
"""Blocks of prompts that are remembered for servers, and models on servers; what was used longest ago goes first."""
MAX_TURNS: Final = 64
"""Prompts that are remembered of one model on one server."""


def blocks_of(spec: TaskSpec) -> Blocks:
    """The blocks that a task's prompt begins with: its words come first, in the order in which executors put them."""
    texts = [text for text in (spec.title, spec.prompt, spec.context.notes) if text]
    if sum(map(len, texts)) < BLOCK_CHARS:
        return ()
    whole = "\n\n".join(texts)
    count = min(MAX_BLOCKS, len(whole) // BLOCK_CHARS)
    return tuple(crc32(whole[at : at + BLOCK_CHARS].encode()) for at in range(0, count * BLOCK_CHARS, BLOCK_CHARS))


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading blocks are the same."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def keep(prompts: list[Blocks], blocks: Blocks, most: int) -> int:
    """A prompt is read: it takes the place of the one that it goes on from, else of the oldest; newest last.

    Returns:
        How many of its blocks need not be read.
    """
    best = max(prompts, key=lambda each: common(each, blocks), default=())
    if known := common(best, blocks):
        prompts.remove(best)
    prompts.append(blocks)
    del prompts[: max(0, len(prompts) - most)]
    return known


class Prefixes:
    """The prompts of tasks that wait, and those that servers have read last."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Blocks] = OrderedDict()
        self._blocks = self._read_blocks = 0
        self._read: OrderedDict[Place, list[Blocks]] = OrderedDict()

    def __len__(self) -> int:
        """All blocks that are remembered."""
        return self._blocks + self._read_blocks

    def expect(self, task: str, blocks: Blocks) -> None:
        """The prompt of a task begins so."""
        if not blocks:
            return
        self._blocks += len(blocks) - len(self._waiting.pop(task, ()))
        self._waiting[task] = blocks
        while self._blocks > MAX_WAITING:
            _, gone = self._waiting.popitem(last=False)
            self._blocks -= len(gone)

    def of(self, task: str) -> Blocks:
        """What the prompt of a task begins with, as far as it is known."""
        return self._waiting.get(task, ())

    def known_tokens(self, blocks: Blocks, server: tuple[str, str], model: str) -> int:
        """How many tokens of such a prompt the server has read already, if it still has the model in memory."""
        prompts = self._read.get((server, model), ())
        return BLOCK_TOKENS * max((common(each, blocks) for each in prompts), default=0)

    def read(self, task: str, server: tuple[str, str], model: str, turns: int, *, is_loaded: bool) -> None:
        """The server reads the prompt of a task now, or as soon as its turn comes.

        Args:
            turns: how many requests the server answers at a time: so many prompts it keeps.
            is_loaded: the model is loaded for it: nothing of what was before is left.
        """
        prompts = self._read.pop((server, model), [])
        self._read_blocks -= _sizes(prompts)
        if is_loaded:
            prompts.clear()
        keep(prompts, self.of(task), max(1, min(MAX_TURNS, turns)))
        self._read[server, model] = prompts
        self._read_blocks += _sizes(prompts)
        while len(self._read) > MAX_PLACES or self._read_blocks > MAX_READ:
            _, gone = self._read.popitem(last=False)
            self._read_blocks -= _sizes(gone)


def _sizes(prompts: Sequence[Blocks]) -> int:
    return sum(map(len, prompts))
