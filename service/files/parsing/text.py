"""Text files: their encoding, and their text in pieces."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from service.files.parsing import Refused

PIECE = 2**18
"""Bytes that are decoded at a time."""

SAMPLE = 2**16
"""Bytes from which an encoding is guessed."""

MAX_CONTROLS = 0.02
"""The share of control characters above which something is no text, if there are more than FEW."""

FEW = 4

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f�]")
_META = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?([a-z0-9_-]{1,40})", re.IGNORECASE)


def read(file: BinaryIO) -> Iterator[str]:
    """Yields the text of a file. Raises Refused for what is no text."""
    return decoded(file, encoding_of(file))


def decoded(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Yields the text of a file in an encoding; what does not fit is replaced."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    while data := file.read(PIECE):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


def encoding_of(file: BinaryIO, *, page: bool = False) -> str:
    """Returns the encoding of a file; of a `page`, it may say so itself. Raises Refused."""
    file.seek(0)
    sample = file.read(SAMPLE)
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if (wide := _wide(sample)) is not None:
        return _plain(sample, wide)
    if _is_utf8(file):
        return _plain(sample, "utf-8")
    if page and (said := _META.search(sample[:4096])) and _known(said[1].decode()):
        return said[1].decode()
    return _plain(sample, _guessed(sample))


def _wide(sample: bytes) -> str | None:
    """Tells UTF-16 without a mark: of most scripts, every other byte is the same few."""
    if len(sample) < 4:
        return None
    even, odd = sample[0:-1:2], sample[1::2]
    if odd.count(0) > len(odd) * 0.4 and even.count(0) < len(even) * 0.05:
        return "utf-16-le"
    if even.count(0) > len(even) * 0.4 and odd.count(0) < len(odd) * 0.05:
        return "utf-16-be"
    return None


def _is_utf8(file: BinaryIO) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while data := file.read(PIECE):
            decoder.decode(data)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guessed(sample: bytes) -> str:
    # Only here, as it takes as long to import as a small file to parse.
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if best is None:
        raise Refused("unsupported")
    return best.encoding


def _known(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding)._is_text_encoding
    except LookupError:
        return False


def _plain(sample: bytes, encoding: str) -> str:
    """Returns the encoding. Raises Refused where the sample is not text in it."""
    text = sample.decode(encoding, errors="replace")
    if len(_CONTROLS.findall(text)) > max(FEW, len(text) * MAX_CONTROLS):
        raise Refused("unsupported")
    return encoding
