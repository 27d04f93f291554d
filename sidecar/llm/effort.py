"""More effort of the same model, in the words of each API; a model that has none is asked at a low temperature.

Whether a model can think longer is known only by asking it: the ones that cannot refuse the request. The rung that the
attempt stands on (``protocol/choice.py``) says how hard to try.
"""

import re
from dataclasses import replace
from typing import Final, Literal

from protocol.choice import Effort
from protocol.errors import ModelFailed
from sidecar.llm.base import ChatReply, ChatRequest, Provider

CAREFUL: Final = 0.2
"""Temperature of a second try of a model that cannot think longer: nearer to what it is surest of."""
MORE_TOKENS: Final = 2
"""Times the usual length that an answer may have: what a model thinks counts as written."""
CLAUDE: Final = {"effort": "max"}
OPENAI: Final = "high"
_GEMINI_BUDGET: Final = 24_576
"""Tokens of thought that every model of Gemini's 2.5 family may be given."""
_UNKNOWN: Final = re.compile(r"think|reasoning|effort|output_config", re.IGNORECASE)


def ollama(model: str) -> Literal["high"] | bool:
    """``think`` in Ollama's API: the models of one family take a level, the others yes or no."""
    return "high" if model.startswith("gpt-oss") else True


def gemini(model: str) -> dict[str, object]:
    """``thinkingConfig`` in Gemini's API: the newer models take a level, those before them a number of tokens."""
    is_old = re.match(r"gemini-[12]\b", model) is not None
    return {"thinkingBudget": _GEMINI_BUDGET} if is_old else {"thinkingLevel": "high"}


async def answered(provider: Provider, request: ChatRequest) -> ChatReply:
    """The answer to a request; without its effort if the model refuses it for that.

    Raises:
        As :meth:`Provider.chat`.
    """
    if request.effort is Effort.NORMAL:
        return await provider.chat(request)
    try:
        return await provider.chat(request)
    except ModelFailed as exc:
        if not _UNKNOWN.search(str(exc)):
            raise
        return await provider.chat(replace(request, effort=Effort.NORMAL, temperature=CAREFUL))
