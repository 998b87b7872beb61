"""HTML: what a reader of the page sees."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from service.files.parsing import Refused
from service.files.parsing.text import decoded, encoding_of

UNSEEN = [
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "iframe",
    "object",
    "head > :not(title)",
]

_INLINE = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q s samp "
    "small span strike strong sub sup time tt u var wbr"
)
INLINE = frozenset(_INLINE.split())
"""Tags within a line; every other begins and ends one."""

CLIMB = 64
"""Tags around a text that are looked at for the block that it is in."""

_SPACES = re.compile(r"\s+")


def read(file: BinaryIO) -> Iterator[str]:
    """Yields the text of a page, a block at a time."""
    source = "".join(decoded(file, encoding_of(file, page=True)))
    try:
        page = LexborHTMLParser(source)
    except SelectolaxError as error:
        # Any text is a page: only memory is a reason to fail.
        raise Refused("too_large") from error
    page.strip_tags(UNSEEN)
    if page.root is None:
        return
    block: int | None = None
    for node in page.root.traverse(include_text=True):
        if node.tag == "br":
            yield "\n"
        if node.tag != "-text":
            continue
        around, verbatim = _block(node)
        text = node.text_content or ""
        text = text if verbatim else _SPACES.sub(" ", text)
        if around != block:
            if not text.strip():
                continue
            yield "\n"
            text = text if verbatim else text.lstrip()
            block = around
        yield text


def _block(node: LexborNode) -> tuple[int | None, bool]:
    """Returns which block a text is in, and whether its white space counts."""
    around = node.parent
    for _ in range(CLIMB):
        if around is None or around.tag not in INLINE:
            break
        around = around.parent
    if around is None:
        return None, False
    return around.mem_id, around.tag in ("pre", "textarea")
