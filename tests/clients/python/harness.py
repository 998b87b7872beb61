"""Checks, and what lets one check drive the synchronous and the asynchronous client."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any, Final

Check = Callable[[Any, str], Awaitable[None]]

CHECKS: Final[dict[str, Check]] = {}
"""All checks by name."""


def check(function: Check) -> Check:
    """Registers a check, which takes a client and the name of its model, and raises if it fails."""
    CHECKS[function.__name__] = function
    return function


def same(value: Any, expected: Any) -> None:
    """Fails unless both are equal."""
    if value != expected:
        raise AssertionError(f"got {value!r}\nexpected {expected!r}")


async def got(value: Any) -> Any:
    """Returns what a call returns."""
    return await value if inspect.isawaitable(value) else value


async def walk(items: Any) -> AsyncIterator[Any]:
    """Walks through what can be walked through."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def each(items: Any) -> list[Any]:
    """Returns all that can be walked through."""
    return [item async for item in walk(items)]


async def first(items: Any, count: int) -> list[Any]:
    """Returns so many of what can be walked through, and leaves the rest."""
    found: list[Any] = []
    async for item in walk(items):
        found.append(item)
        if len(found) == count:
            break
    return found


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    """Enters what can be entered."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def refused(kind: type[Exception], call: Callable[[], Any]) -> Any:
    """Returns the error of a call that must fail."""
    try:
        await got(call())
    except kind as error:
        return error
    raise AssertionError("it was not refused")


def folded(names: list[str]) -> list[str]:
    """Returns the names with each row of equal ones shown as one."""
    return [name for name, _ in groupby(names)]
