"""Makes long threads: rows that the database itself copies from a few that the API has made."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from bench.stack import Server
from storage import ids, tables

DIGITS: Final = 10
"""Of a number at the end of a position: its other characters are the same in the whole thread."""

PORTION: Final = 10_000
"""Pairs of messages that are copied in one transaction."""

_MESSAGES: sa.Table = tables.Message.__table__  # type: ignore[attr-defined]
_THREADS: sa.Table = tables.Thread.__table__  # type: ignore[attr-defined]

TEXT: Final = (
    "The quick brown fox jumps over the lazy dog, and nobody minds that it does so again. " * 2
)


@dataclass(frozen=True, slots=True)
class LongThread:
    """A thread of many messages."""

    id: str
    length: int
    prefix: str
    """What the positions of its messages begin with."""

    def message(self, number: int) -> str:
        """Returns the id of a message; 0 is the oldest that is a copy."""
        return ids.make_id(ids.MESSAGE, f"{self.prefix}{number:0{DIGITS}}")


def long_threads(server: Server, lengths: list[int]) -> list[LongThread]:
    """Makes threads of so many messages, of the user and of the assistant in turn."""
    engine = server.engine()
    try:
        made = [_long_thread(server, engine, length) for length in lengths]
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                # What its own housekeeping does, some time later.
                connection.execute(sa.text("VACUUM (ANALYZE) messages"))
    finally:
        engine.dispose()
    return made


def _long_thread(server: Server, engine: sa.Engine, length: int) -> LongThread:
    thread_id = server.post("/threads", {})["id"]
    first, last = (
        server.post(f"/threads/{thread_id}/messages", {"role": role, "content": TEXT})["id"]
        for role in ("user", "assistant")
    )
    position = ids.position_of(ids.MESSAGE, last)
    assert position is not None
    # Behind both: the next number of the characters that stay the same.
    thread = LongThread(thread_id, length, ids.ahead_of(position, -(2 ** (5 * DIGITS)))[:-DIGITS])
    pairs = length // 2 - 1
    for start in range(0, pairs, PORTION):
        # In portions, as the server waits for each.
        with engine.begin() as connection:
            connection.execute(_copies(thread, first, start, min(start + PORTION, pairs)))
    with engine.begin() as connection:
        newest = thread.message(2 * pairs - 1).removeprefix(f"{ids.MESSAGE}_")
        here = _THREADS.c.id == thread_id
        connection.execute(sa.update(_THREADS).where(here).values(last_position=newest))
    return thread


def _copies(thread: LongThread, first: str, start: int, stop: int) -> sa.Insert:
    """Returns the statement that copies the first two messages of a thread again and again.

    The copies of numbers from `start` to `stop`, of the user's message and of the other.
    """
    numbers = sa.select(sa.literal(start).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < stop - 1))
    columns = _MESSAGES.c
    number = 2 * numbers.c.n + sa.case((columns.id == first, 0), else_=1)
    digits = sa.func.substr(sa.cast(sa.literal(10**DIGITS, sa.BigInteger) + number, sa.String), 2)
    position = sa.literal(thread.prefix) + digits
    made = {
        "id": sa.literal(f"{ids.MESSAGE}_") + position,
        "position": position,
        "context_position": position,
    }
    copies = (
        sa.select(*(made.get(column.name, column) for column in columns))
        .select_from(_MESSAGES.join(numbers, sa.true()))
        .where(columns.thread_id == thread.id, columns.position < thread.prefix)
    )
    return sa.insert(_MESSAGES).from_select([column.name for column in columns], copies)
