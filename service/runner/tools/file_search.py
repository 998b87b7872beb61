"""The tool `file_search`: the model searches in the vector stores of its assistant and thread."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.files.results import Result as Found
from service.files.search import Search
from service.runner.marks import mark
from service.runner.tools.tool import Call, Delta, Offer, Result, ServerTool, ToolFailed
from service.settings import FileSearchMode
from service.types.tool_calls import FILE_SEARCH
from service.types.tools import ranking_options
from storage.rows import Run
from storage.vector_stores import VectorStores

MAX_QUERIES = 5
MAX_QUERY = 1000
"""Characters of a query; more are cut off."""

AHEAD_RESULTS, AHEAD_TOKENS = 5, 4000
"""How much a model gets that calls no functions, at most: such models read little at once."""

AHEAD_SHARE = 4
"""One part in so many of the room is theirs. The embedded model reads a hundred tokens a second, a
tenth of it on busy cores, and answers from one chunk better than from four.
"""

MIN_TOKENS = 128
"""What of the best result a model gets in any case."""

FUNCTION: Mapping[str, Any] = {
    "name": FILE_SEARCH,
    "description": (
        "Searches in the user's files and returns excerpts. Call it whenever the files may have "
        "the answer. Each excerpt stands behind a mark such as 【1:0†name】: copy the mark right "
        "behind each statement that you take from the excerpt."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "queries": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": MAX_QUERIES,
                "description": (
                    "What to search for, in different words or about different aspects. Each query "
                    "stands for itself and names what it is about."
                ),
            }
        },
        "required": ["queries"],
    },
}

AHEAD = "Excerpts from the user's files, each behind the mark to cite it by:\n\n"
INTRODUCTION = (
    "Excerpts from the user's files. Copy the mark of an excerpt, such as {}, right behind what "
    "you take from it.\n\n"
)
NOTHING = "Nothing was found in the user's files."
NO_QUERY = 'No query was given. Call it with {"queries": ["…"]}.'

_KEYS = ("queries", "query", "q", "search", "text", "input")
"""Under which models give their queries, whatever they were told."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """How much a model gets of what was found, where its run does not say."""

    results: int = 20
    tokens: int = 16_000


class FileSearch(ServerTool):
    """Searches in vector stores. A model that calls no functions is given results ahead."""

    type = FILE_SEARCH

    def __init__(
        self,
        stores: VectorStores,
        search: Search,
        calls_functions: Callable[[str], bool],
        mode: FileSearchMode = "auto",
        limits: SearchLimits | None = None,
    ) -> None:
        """Searches with `search` in `stores`.

        `calls_functions` says of a model whether it does, as far as is known; it decides in mode
        `auto`. In mode `always` no model does, in mode `tool` every one.
        """
        self._stores = stores
        self._search = search
        self._calls_functions = calls_functions
        self._mode = mode
        self._limits = limits or SearchLimits()

    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer | None:
        """Returns the function; None where there is nothing to search in. Raises Unreachable."""
        stores = await self._stores.of_run(run)
        if not stores:
            return None
        await self._stores.use(run.project_id, [each.id for each in stores])
        return Offer({"type": "function", "function": {**FUNCTION}}, ahead=self._is_ahead(run))

    async def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        """Searches for all queries of the call at once. Raises ToolFailed, Unreachable."""
        run, options = call.run, ranking_options(call.given)
        queries = of_text(call.arguments) if call.ahead else parse_queries(call.arguments)
        if not queries:
            raise ToolFailed(NO_QUERY)
        stores = await self._stores.of_run(run)
        chosen = call.given.get(FILE_SEARCH, {}).get("max_num_results")
        limit = chosen or (AHEAD_RESULTS if call.ahead else self._limits.results)
        tokens = AHEAD_TOKENS if call.ahead else self._limits.tokens
        if call.room is not None:
            tokens = min(tokens, call.room // AHEAD_SHARE if call.ahead else call.room)
        found = list[Found]()
        if stores:
            threshold = options["score_threshold"]
            found = await self._search.search(run.project_id, stores, queries, limit, threshold)
        texts = fitting(found, tokens)
        results = [
            {
                "file_id": each.file_id,
                "file_name": each.filename,
                "score": each.score,
                "content": [{"type": "text", "text": text}],
            }
            for each, text in zip(found, texts, strict=False)
        ]
        details = {"ranking_options": options, "results": results}
        yield Result(_output(call.number, found, texts, call.ahead), details)

    def _is_ahead(self, run: Run) -> bool:
        if self._mode == "auto":
            return not self._calls_functions(run.model)
        return self._mode == "always"


def parse_queries(arguments: str) -> list[str]:
    """Returns the queries of a call; whatever is no JSON is one."""
    try:
        given = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        given = arguments
    if isinstance(given, Mapping):
        given = next((given[key] for key in _KEYS if given.get(key)), None)
    if isinstance(given, str | int | float):
        given = [given]
    texts = given if isinstance(given, Sequence) else []
    queries = (
        str(text).strip()[:MAX_QUERY] for text in texts if isinstance(text, str | int | float)
    )
    return list(dict.fromkeys(filter(None, queries)))[:MAX_QUERIES]


def of_text(text: str) -> list[str]:
    """Returns the queries for a text of the user's: of a long one, how it begins and ends."""
    text = text.strip()
    return list(dict.fromkeys([text[:MAX_QUERY], text[-MAX_QUERY:]]))


def fitting(found: Sequence[Found], tokens: int) -> list[str]:
    """Returns the texts of the best results that fit in so many tokens together.

    Of the first one, as much as fits.
    """
    texts = list[str]()
    for result in found:
        if result.tokens > tokens:
            if not texts:
                share = max(tokens, MIN_TOKENS) / result.tokens
                texts.append(result.text[: int(len(result.text) * min(share, 1.0))])
            break
        texts.append(result.text)
        tokens -= result.tokens
    return texts


def _output(number: int, found: Sequence[Found], texts: Sequence[str], ahead: bool) -> str:
    if not texts:
        return NOTHING
    marks = [mark(number, index, each.filename) for index, each in enumerate(found)]
    excerpts = (f"{each}\n{text.strip()}" for each, text in zip(marks, texts, strict=False))
    # A small model would take the instruction for what is to be talked about.
    return (AHEAD if ahead else INTRODUCTION.format(marks[0])) + "\n\n".join(excerpts)
