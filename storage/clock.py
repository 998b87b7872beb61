"""The database's clock: the only one that leases, expiry and timestamps go by."""

from collections.abc import Mapping
from typing import Any, ClassVar

import sqlalchemy as sa

from storage.dialects import InWords
from storage.statements import Statement


class now(InWords):
    """The time in unix seconds with their fraction, read when the statement runs."""

    type = sa.Float()
    inherit_cache = True
    words: ClassVar[Mapping[str, str]] = {
        # Not now(), which stands still for the length of a transaction.
        "postgresql": "extract(epoch from clock_timestamp())::double precision",
        "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    }


NOW: Statement[Any] = Statement(sa.select(now()))


def is_ahead(time: Any, at: Any = None) -> sa.ColumnElement[bool]:
    """Returns the condition that a time has not come: by now, or `at`. Null never comes."""
    return sa.or_(time.is_(None), time > (now() if at is None else at))
