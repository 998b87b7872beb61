"""Ids and positions.

An id is `<prefix>_<ULID>`, or, of a file, `file-<ULID>`. The ULID is the object's position too: the
key that orders it in every list. So the position of an id that was made here is read from the id,
without a look-up.
"""

import secrets
import threading
from typing import Final

from ulid import ULID

from storage import wall_clock

ASSISTANT: Final = "asst"
THREAD: Final = "thread"
MESSAGE: Final = "msg"
RUN: Final = "run"
STEP: Final = "step"
CALL: Final = "call"
PROJECT: Final = "proj"
KEY: Final = "key"
FILE: Final = "file"
UPLOAD: Final = "upload"
PART: Final = "part"
BLOB: Final = "blob"

_SEPARATORS = {FILE: "-"}
"""What stands between prefix and position where it is no underscore."""
VECTOR_STORE: Final = "vs"
BATCH: Final = "vsfb"
ENTRY: Final = "entry"
"""Of a file's entry in a vector store; callers know it by the file's id."""

_ALPHABET = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_lock = threading.Lock()
_last = 0


def new_position(room: int = 0) -> str:
    """Returns a position greater than every one this process has returned before.

    The `room` positions right ahead of it stay free: see `ahead_of`.
    """
    global _last
    with _lock:
        _last = max(int(ULID.from_timestamp(wall_clock.now())), _last + 1) + room
        return str(ULID.from_int(_last))


def next_position(last: str | None, room: int = 0) -> str:
    """Returns a new position that is also greater than `last`, whatever the clocks say."""
    position = new_position(room)
    if last is None or ahead_of(position, room) > last:
        return position
    # Some way off: right behind it may be what the server with the faster clock has given since.
    step = 1 + room + secrets.randbits(64)
    return str(ULID.from_int(int(ULID.from_str(last)) + step))


def ahead_of(position: str, by: int) -> str:
    """Returns the position that is smaller by a number."""
    return str(ULID.from_int(int(ULID.from_str(position)) - by))


def make_id(prefix: str, position: str) -> str:
    """Returns the id of the object at `position`."""
    return f"{prefix}{_SEPARATORS.get(prefix, '_')}{position}"


def new_id(prefix: str) -> str:
    """Returns a new id for something that stands in no list of its own."""
    return make_id(prefix, new_position())


def position_of(prefix: str, id: str) -> str | None:
    """Returns the position in an id of this kind, or None for an id that was not made here."""
    head, _, position = id.partition(_SEPARATORS.get(prefix, "_"))
    if head != prefix or len(position) != 26 or not _ALPHABET.issuperset(position):
        return None
    return position if position[0] <= "7" else None
