"""The database's clock: the only one that leases, expiry and timestamps go by."""

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession


class now(FunctionElement[float]):
    """The time in unix seconds with their fraction, read when the statement runs."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # Not now(), which stands still for the length of a transaction.
    return "extract(epoch from clock_timestamp())::double precision"


async def read(session: AsyncSession) -> float:
    """Returns the database's time in unix seconds."""
    return float((await session.exec(select(now()))).one())
