"""How many tokens a prompt takes, before it is sent.

The model server's own tokenizer counts them where it has one, `POST /tokenize` beside `/v1`, as
llama.cpp, vLLM and SGLang do. What the chat template adds to the text is estimated all the
same, so a count may be off by a few tokens per message.

Without a tokenizer the count is an estimate, a token for every four bytes of text, and learns: each
answer's usage has what its prompt really took, and corrects the estimates for that model by the
same ratio. What was learned is lost when the server stops.

How many a prompt and its answer may take together, the model's context, is known where a setting or
a refusal of the model server names it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from service.models.connections import Client
from service.models.sizes import Prompt, Size, size_of

log = structlog.get_logger(__name__)

BYTES_PER_TOKEN = 4
"""Of UTF-8. About right for English, and closer for other scripts than characters are."""

TOKENS_PER_MESSAGE = 4
"""What a chat template adds to a message, about."""

TOKENS_PER_IMAGE = 765
"""A square of 1024 pixels at OpenAI's. How large an image behind a URL is, nobody knows here."""

MIN_LESSON = 100
"""Estimated tokens of a prompt to learn from: of a shorter one, most is what the template adds."""

LESSON_WEIGHT = 0.3
"""How much of a model's ratio comes from its latest answer."""

MIN_RATIO, MAX_RATIO = 0.25, 4.0
"""Bounds of what is learned: beyond them, the server counts something else."""

MAX_MODELS = 1000
"""Models that are remembered, the latest used."""

MAX_TOKENIZED = 2**20
"""Characters of text that a tokenizer is asked about; more is estimated."""

PATIENCE = 2.0
"""Seconds that a tokenizer may take. It saves less than it costs if it is slower."""

PROBE_AGAIN = 300.0
"""Seconds until a model server is asked again whether it has a tokenizer that works."""


@dataclass(slots=True)
class _Model:
    """What is known about a model."""

    ratio: float = 1.0
    """Reported tokens per estimated one."""
    has_tokenizer: bool = False
    context: int | None = None
    """The tokens that it takes, as a refusal of its server named them."""
    probe_after: float = 0.0
    """When to look for a tokenizer, on the monotonic clock."""


class TokenCounter:
    """Counts the prompt tokens of requests to one model server."""

    def __init__(self, client: Client, base_url: str, context: int | None = None) -> None:
        """Asks with `client`; the tokenizer is looked for beside the `/v1` of `base_url`.

        `context` is what each model of the server takes, if that is known.
        """
        self._client = client
        self._context = context
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        self._models: OrderedDict[str, _Model] = OrderedDict()

    async def count(self, request: Mapping[str, Any]) -> int:
        """Returns how many tokens the prompt of a chat-completion request takes, about.

        Counts `messages`, `tools` and `response_format`; an image counts as much as any other.
        Never fails: where the tokenizer does, the estimate takes its place.
        """
        return await self._count(await Prompt.of(request))

    async def _count(self, prompt: Prompt) -> int:
        model, size = self._model(prompt.model), prompt.size
        images = TOKENS_PER_IMAGE * size.images
        tokens = await self._tokenized(model, prompt)
        if tokens is None:
            return round(_estimate(size) * model.ratio) + images
        return tokens + TOKENS_PER_MESSAGE * size.turns + images

    async def fits(self, prompt: Prompt, budget: int) -> bool:
        """Returns whether the prompt takes no more tokens than `budget`, about. Never fails."""
        # Most prompts are short, and some hopelessly long: neither needs a tokenizer.
        if _most(prompt.size) <= budget:
            return True
        if _estimate(prompt.size) * MIN_RATIO > budget:
            return False
        return await self._count(prompt) <= budget

    def context(self, model: str) -> int | None:
        """Returns how many tokens a prompt and its answer can take together; None if not known."""
        known = (self._context, self._model(model).context)
        return min((each for each in known if each is not None), default=None)

    async def exceeded(self, request: Mapping[str, Any], context: int) -> None:
        """Takes in that a request was refused because it is longer than the model's context."""
        size = (await Prompt.of(request)).size
        model = self._model(request["model"])
        model.context = context
        # Some servers count the room for the answer: the prompt took what that left, at least.
        images = TOKENS_PER_IMAGE * size.images
        least = context - request.get("max_completion_tokens", 0) - images
        ratio = least / max(_estimate(size), 1)
        model.ratio = min(max(model.ratio, ratio), MAX_RATIO)

    async def learn(self, request: Mapping[str, Any], reported: int) -> None:
        """Takes in how many prompt tokens the model server reported for a request."""
        size = (await Prompt.of(request)).size
        if size.images or _estimate(size) < MIN_LESSON or reported <= 0:
            return
        model = self._model(request["model"])
        ratio = min(max(reported / _estimate(size), MIN_RATIO), MAX_RATIO)
        model.ratio += LESSON_WEIGHT * (ratio - model.ratio)

    def _model(self, name: str) -> _Model:
        model = self._models.setdefault(name, _Model())
        self._models.move_to_end(name)
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        return model

    async def _tokenized(self, model: _Model, prompt: Prompt) -> int | None:
        """Returns the tokens of the texts; None if no tokenizer can count them."""
        if prompt.size.characters > MAX_TOKENIZED or time.monotonic() < model.probe_after:
            return None
        try:
            if not model.has_tokenizer:
                # Whoever else answers under that path gets nothing of the conversation.
                await self._ask(prompt.model, "Hello")
                model.has_tokenizer = True
            text = prompt.text()
            return await self._ask(prompt.model, text) if text else 0
        except Exception as error:
            # Whatever is wrong with it, a run does without.
            log.info("no tokenizer", model=prompt.model, reason=type(error).__name__)
            model.has_tokenizer, model.probe_after = False, time.monotonic() + PROBE_AGAIN
            return None

    async def _ask(self, model: str, text: str) -> int:
        """Asks the tokenizer. Raises whatever goes wrong."""
        # llama.cpp reads `content`, vLLM and SGLang the rest; each ignores what it does not know.
        body = {"model": model, "content": text, "prompt": text, "add_special_tokens": False}
        async with asyncio.timeout(PATIENCE):
            answer = await self._client.ask(self._url, body)
        if not isinstance(answer, dict):
            raise TypeError("no object")
        tokens = answer["count"] if "count" in answer else len(answer["tokens"])
        # No token is less than a byte of text, but for one that may begin it.
        if type(tokens) is not int or not 0 < tokens <= size_of(text) + 1:
            raise ValueError("no number of tokens")
        return tokens


def _estimate(size: Size) -> int:
    """Returns the tokens of the texts, about, with what the template adds."""
    return size.joined // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * size.turns


def _most(size: Size) -> int:
    """Returns as many tokens as it can be: none is less than a byte of text."""
    return size.joined + TOKENS_PER_MESSAGE * size.turns + TOKENS_PER_IMAGE * size.images
