"""Has the model rewrite the queries of a search."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.models.client import ChatModel, ModelError, TextDelta

log = structlog.get_logger(__name__)

MAX_CHARACTERS = 1000
"""Characters of a query that is worded anew; what is longer is no question, and stays."""

AT_ONCE = 4
"""Queries of a search that the model is given at the same time: runs ask it, too."""

PATIENCE = 20.0
"""Seconds in which all queries must be worded anew. Somebody waits for the search, which comes
after that, and a POST of REST is cut after 120 seconds.
"""

INSTRUCTIONS = (
    "Rewrite the user's question as a short query for a search engine: keep names, numbers and "
    "technical terms, drop polite phrases. Answer with the query alone."
)


def rewriting(
    model: ChatModel, name: str | None
) -> Callable[[Sequence[str]], Awaitable[Sequence[str]]]:
    """Returns what words queries anew; without the `name` of a model, they stay as they are.

    So does a query that the model does not answer, or not in time.
    """

    async def rewritten(queries: Sequence[str]) -> Sequence[str]:
        if name is None:
            return queries
        turn = asyncio.Semaphore(AT_ONCE)
        until = asyncio.get_running_loop().time() + PATIENCE

        async def one(query: str) -> str:
            try:
                async with asyncio.timeout_at(until), turn:
                    return await _rewritten(model, name, query)
            except (ModelError, TimeoutError) as error:
                log.warning("a query stays as it is", problem=str(error) or "timeout")
                return query

        return await asyncio.gather(*map(one, queries))

    return rewritten


async def _rewritten(model: ChatModel, name: str, query: str) -> str:
    if len(query) > MAX_CHARACTERS:
        return query
    request = {
        "model": name,
        "messages": [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": query},
        ],
        "max_completion_tokens": 200,
        "temperature": 0,
    }
    text = ""
    async with contextlib.aclosing(model.stream(request)) as answer:
        async for chunks in answer:
            text += "".join(each.text for each in chunks if isinstance(each, TextDelta))
    words = " ".join(text.split()).strip("\"'")
    return words[:MAX_CHARACTERS] or query
