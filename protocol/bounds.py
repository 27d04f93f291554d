"""How much a field may hold: every text, list, map and number that a peer or a caller sends has one of these types.

These are the walls, far enough out that nobody who means well meets them; what a task, a check or a token may say
exactly, with a word on what to do instead, is told by :mod:`protocol.schema` and by the services. They keep one field
from being a thousand times what the code behind it was made for, and numbers that no store holds, or that are none
(``NaN``), from getting in at all. The decoder looks at them as it reads, so they cost next to nothing.
"""

from sys import float_info
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta

from protocol.limits import MAX_BODY_BYTES, MAX_FRAME_BYTES

T = TypeVar("T")
MAX_WORD_CHARS: Final = 2_048
MAX_SENTENCE_CHARS: Final = 64 << 10
MAX_TEXT_CHARS: Final = MAX_FRAME_BYTES
FEW: Final = 4_096
MANY: Final = 32_768

Word = Annotated[str, Meta(max_length=MAX_WORD_CHARS)]
"""A name, an id, a code, an address, a path."""
Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE_CHARS)]
"""What is said to a person: a reason, a summary, a note."""
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
"""What was written: an output, the command of a check. No more than a whole frame."""
Script = Annotated[str, Meta(max_length=MAX_BODY_BYTES)]
"""What a person hands in: no more than a body may be, so that one who hands in too much is told what to do instead."""
Few = Annotated[tuple[T, ...], Meta(max_length=FEW)]
"""As many as a machine or a task may have of something."""
Many = Annotated[tuple[T, ...], Meta(max_length=MANY)]
"""As many as a frame may hold of something small."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A whole number that a peer may name and every store can hold."""
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""One that may be below nothing."""
Measure = Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]
"""Any number that is one."""
Amount = Annotated[float, Meta(ge=-0.01, le=1e15)]
"""What was used of something: not less than nothing, but for what rounding leaves of it."""

Words = Annotated[dict[Word, Word], Meta(max_length=FEW)]
"""Words by their names."""
Costs = Annotated[dict[Word, Measure], Meta(max_length=FEW)]
"""Numbers by their names."""
Free = Annotated[dict[Word, Any], Meta(max_length=FEW)]
"""JSON of any form, which somebody else reads: what bounds it is the size of the whole that it is part of."""
