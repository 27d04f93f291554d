"""How words are compared when people look for something: letters of any size and any script alike.

Databases disagree (SQLite's ``lower`` knows ASCII alone, PostgreSQL's what its locale says), so texts are folded here,
once when they are stored and once when they are asked for, and every store finds the same.
"""

import unicodedata


def folded(text: str) -> str:
    """A text as it is compared: STRASSE and straße are one.

    Letters that can be written in two ways (an accent of its own, a ligature, full width) are one; accents count.
    Source: caseless matching, Unicode 3.13 (D147).
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
