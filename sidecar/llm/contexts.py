"""Which context length an Ollama server is asked for: one of few sizes, and the loaded one as long as that will do.

Another ``num_ctx`` than that of the loaded model makes Ollama load the model anew, which takes seconds to minutes and
throws away what was read before. So requests of about one size ask for the same, and a smaller need is served by
whatever larger context is loaded, whoever had it loaded. Pure; the caller is ``sidecar/llm/ollama.py``.
"""

from typing import Final

SIZES: Final = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
UNKNOWN_MOST: Final = SIZES[3]
"""Context of a model that does not say how much it can: more would be a guess that Ollama does not refuse."""
LEAST_ANSWER: Final = 256
"""Least room that a prompt must leave for the answer."""
USUAL_ANSWER: Final = 1_024
"""Room for the answer that makes a loaded context good enough: few answers are longer."""


def most_of(model_most: int | None) -> int:
    """The longest context worth asking for: what the model was trained for, at most the largest size."""
    return min(model_most or UNKNOWN_MOST, SIZES[-1])


def context_for(prompt: int, wish: int, *, most: int, loaded: int | None = None) -> int | None:
    """The context length to ask for; ``None``: the prompt does not fit.

    Args:
        prompt: tokens of the prompt, rather too many.
        wish: tokens that prompt and answer together may come to.
        most: the longest context that may be asked for.
        loaded: the context that the model is loaded with, if it is.
    Returns:
        ``loaded`` if the prompt and a usual answer fit it; else the smallest of :data:`SIZES` that holds the wish, or
        ``most`` if none does.
    """
    if prompt + LEAST_ANSWER > most:
        return None
    if loaded is not None and prompt + min(USUAL_ANSWER, max(LEAST_ANSWER, wish - prompt)) <= loaded:
        return loaded
    wanted = min(most, max(wish, prompt + LEAST_ANSWER))
    return next((size for size in SIZES if wanted <= size <= most), most)
