"""Words of texts and of queries, as full text has them on both databases."""

import hashlib
import re

MAX_WORDS = 128
"""Words of a query that are looked at."""

_STOP = (
    "a about an and any are as at be been but by can could did do does for from had has have how i "
    "if in into is it its me my no not of on or our should so some than that the their them then "
    "there these they this those to us was we were what when where which while who why will with "
    "would you your t s d ll re ve"
)
STOP = frozenset(_STOP.split())
"""Words that tell nothing."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Returns the words of a query, each once: without those that tell nothing, if others do."""
    found = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
    return ([word for word in found if word not in STOP] or found)[:MAX_WORDS]


def store_word(store_id: str) -> str:
    """Returns the word that stands for a vector store."""
    # Of letters and digits only, so that no tokenizer divides it, and a number's, which none stems.
    return "9" + str(int.from_bytes(hashlib.blake2b(store_id.encode(), digest_size=8).digest()))


def plain(text: str) -> str:
    """Returns the words of a text with spaces between them: so databases divide it alike."""
    return " ".join(_WORD.findall(text))
