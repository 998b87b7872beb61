"""The database's clock: the only one that leases, expiry and timestamps go by."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.statements import Statement


class now(FunctionElement[float]):
    """The time in unix seconds with their fraction, read when the statement runs."""

    type = sa.Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # Not now(), which stands still for the length of a transaction.
    return "extract(epoch from clock_timestamp())::double precision"


NOW: Statement[Any] = Statement(sa.select(now()))
