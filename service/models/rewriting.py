"""Has the model rewrite the queries of a search."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.models.client import ChatModel, ModelError, TextDelta

log = structlog.get_logger(__name__)

MAX_CHARACTERS = 1000
"""Characters of a query that is worded anew; what is longer is no question, and stays."""

PATIENCE = 20.0
"""Seconds in which a query must be worded anew. Somebody waits for the search, which comes after
that, and a POST of REST is cut after 120 seconds.
"""

INSTRUCTIONS = (
    "Rewrite the user's question as a short query for a search engine: keep names, numbers and "
    "technical terms, drop polite phrases. Answer with the query alone."
)


def rewriting(
    model: ChatModel, name: str | None
) -> Callable[[Sequence[str]], Awaitable[Sequence[str]]]:
    """Returns what words queries anew; without the `name` of a model, they stay as they are.

    So does a query that the model does not answer, or not in time. It is asked for all at once.
    """

    async def rewritten(queries: Sequence[str]) -> Sequence[str]:
        if name is None:
            return queries
        return await asyncio.gather(*(_rewritten(model, name, query) for query in queries))

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
    try:
        async with (
            asyncio.timeout(PATIENCE),
            contextlib.aclosing(model.stream(request)) as answer,
        ):
            async for chunks in answer:
                text += "".join(each.text for each in chunks if isinstance(each, TextDelta))
    except (ModelError, TimeoutError) as error:
        log.warning("a query stays as it is", problem=str(error) or "timeout")
        return query
    words = " ".join(text.split()).strip("\"'")
    return words[:MAX_CHARACTERS] or query
