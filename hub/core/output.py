"""Which output of all tasks a reader wants. Pure; the caller is ``hub/services/insight.py``."""

from collections.abc import Mapping

from msgspec import Struct

from hub.core.words import folded


class Wanted(Struct, frozen=True, kw_only=True):
    """Filters; what is empty is not filtered. ``words`` stand in the piece itself, in letters of any size."""

    task: str = ""
    agent: str = ""
    label: tuple[str, str] | None = None
    stream: str = ""
    words: str = ""

    def takes(self, *, task: str, agent: str, labels: Mapping[str, str], stream: str, text: str) -> bool:
        """Whether a piece of output is wanted."""
        if self.label is not None and labels.get(self.label[0]) != self.label[1]:
            return False
        same = ((self.task, task), (self.agent, agent), (self.stream, stream))
        if any(wish and wish != value for wish, value in same):
            return False
        return not self.words or folded(self.words) in folded(text)
