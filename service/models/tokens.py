"""How many tokens a prompt takes, before it is sent.

The model server's own tokenizer says it where there is one to ask: `POST /tokenize` beside `/v1`,
as llama.cpp, vLLM and SGLang have it. What the chat template adds to the text is estimated all the
same, so a count may be off by a few tokens per message.

Without a tokenizer the count is an estimate, a token for every four bytes of text, and learns: each
answer's usage tells what its prompt really took, and corrects the estimates for that model by the
same ratio. What was learned is lost when the server stops.

How many a prompt and its answer may take together, the model's context, is known where a setting or
the model server has said it.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from service.models.connections import Client

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
    """The tokens that it takes, as its server has said."""
    probe_after: float = 0.0
    """When to look for a tokenizer, on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What of a chat-completion request takes tokens."""

    text: str
    size: int
    """Bytes of the text."""
    messages: int
    images: int

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> "_Prompt":
        parts = list(_parts(request))
        texts = [part for part in parts if part is not None]
        text = "\n".join(texts)
        return cls(text, _size(text), len(request["messages"]), len(parts) - len(texts))

    @property
    def estimate(self) -> int:
        """The tokens of the text, about, with what the template adds."""
        return self.size // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * self.messages

    @property
    def most(self) -> int:
        """As many tokens as it can be: none is less than a byte of text."""
        added = TOKENS_PER_MESSAGE * self.messages + TOKENS_PER_IMAGE * self.images
        return self.size + added


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
        return await self._count(request["model"], _Prompt.of(request))

    async def _count(self, name: str, prompt: _Prompt) -> int:
        model = self._model(name)
        images = TOKENS_PER_IMAGE * prompt.images
        tokens = await self._tokenized(model, name, prompt.text)
        if tokens is None:
            return round(prompt.estimate * model.ratio) + images
        return tokens + TOKENS_PER_MESSAGE * prompt.messages + images

    async def fits(self, request: Mapping[str, Any], budget: int) -> bool:
        """Returns whether the prompt takes no more tokens than `budget`, about. Never fails."""
        # Most prompts are short, and some hopelessly long: neither needs a tokenizer to tell.
        prompt = _Prompt.of(request)
        if prompt.most <= budget:
            return True
        if prompt.estimate * MIN_RATIO > budget:
            return False
        return await self._count(request["model"], prompt) <= budget

    def context(self, model: str) -> int | None:
        """Returns how many tokens a prompt and its answer can take together; None if not known."""
        known = (self._context, self._model(model).context)
        return min((each for each in known if each is not None), default=None)

    def exceeded(self, request: Mapping[str, Any], context: int) -> None:
        """Takes in that a request was refused because it is longer than the model's context."""
        model = self._model(request["model"])
        model.context = context
        # Some servers count the room for the answer: the prompt took what that left, at least.
        prompt = _Prompt.of(request)
        images = TOKENS_PER_IMAGE * prompt.images
        least = context - request.get("max_completion_tokens", 0) - images
        ratio = least / max(prompt.estimate, 1)
        model.ratio = min(max(model.ratio, ratio), MAX_RATIO)

    def learn(self, request: Mapping[str, Any], reported: int) -> None:
        """Takes in how many prompt tokens the model server reported for a request."""
        prompt = _Prompt.of(request)
        if prompt.images or prompt.estimate < MIN_LESSON or reported <= 0:
            return
        model = self._model(request["model"])
        ratio = min(max(reported / prompt.estimate, MIN_RATIO), MAX_RATIO)
        model.ratio += LESSON_WEIGHT * (ratio - model.ratio)

    def _model(self, name: str) -> _Model:
        model = self._models.setdefault(name, _Model())
        self._models.move_to_end(name)
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        return model

    async def _tokenized(self, model: _Model, name: str, text: str) -> int | None:
        """Returns the tokens of a text; None if there is no tokenizer that can tell."""
        if len(text) > MAX_TOKENIZED or time.monotonic() < model.probe_after:
            return None
        try:
            if not model.has_tokenizer:
                # Whoever else answers under that path is not told what the conversation is about.
                await self._ask(name, "Hello")
                model.has_tokenizer = True
            return await self._ask(name, text) if text else 0
        except Exception as error:
            # Whatever is wrong with it, a run does without.
            log.info("no tokenizer", model=name, reason=type(error).__name__)
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
        if type(tokens) is not int or not 0 < tokens <= _size(text) + 1:
            raise ValueError("no number of tokens")
        return tokens


def _size(text: str) -> int:
    """Returns the bytes of a text."""
    return len(text.encode(errors="surrogatepass"))


def _parts(request: Mapping[str, Any]) -> Iterator[str | None]:
    """Yields the texts that the model reads, and None for each image."""
    for turn in request["messages"]:
        content = turn.get("content") or ()
        if isinstance(content, str):
            yield content
        else:
            yield from (part.get("text") for part in content)
        # What a server gets back with its own turn: reasoning is read again, all else is opaque.
        replayed = map(turn.get, ("reasoning_content", "reasoning"))
        yield from (text for text in replayed if isinstance(text, str))
        for call in turn.get("tool_calls") or ():
            yield f"{call['function']['name']} {call['function']['arguments']}"
    for key in ("tools", "response_format"):
        if key in request:
            yield json.dumps(request[key], ensure_ascii=False)
