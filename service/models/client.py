"""The client of the chat model: any OpenAI-compatible `/chat/completions`, always streamed.

The run engine asks it for one answer at a time; what servers do differently is settled in
`service.models.chunks`, what can go wrong on the way is settled here.
"""

import contextlib
import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any

import structlog

from service.models.chunks import (
    CallDelta,
    Chunk,
    Finished,
    Piece,
    Reader,
    RefusalDelta,
    TextDelta,
    storable,
)
from service.models.connections import Broken, Client, Failure, Refused, Silent
from service.models.dialect import Dialects, Negotiation, Quirk, refuses_tools
from service.models.failures import (
    KEY_REFUSED,
    NO_ANSWER,
    ModelError,
    code_of,
    error_text,
    exceeded_context,
    is_retryable,
    refusal_of,
    retry_after,
)
from service.models.framing import Events
from service.models.tokens import TokenCounter

__all__ = [
    "CallDelta",
    "ChatModel",
    "Chunk",
    "Finished",
    "ModelError",
    "Piece",
    "RefusalDelta",
    "TextDelta",
]

log = structlog.get_logger(__name__)

MAX_MESSAGE = 1000
"""Characters of a model server's error message that are passed on."""

_FAILURES = (ModelError, Failure, ValueError, RecursionError)
"""What is raised where there is no answer, or none to the end."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


class ChatModel:
    """A chat-completions endpoint.

    `base_url` goes up to and with its `/v1`. `idle_timeout` is in seconds: a server that sends no
    byte for so long, before its answer or within, is taken for dead. `tokens` counts its prompts,
    and knows the model's `context`, in tokens, where it is given or a refusal names it. `slots`
    is how many answers the server gives at once while more wait; None where that is its own affair.
    `options` are parameters that each request gets besides its own, `quirks` what its server wants
    otherwise than in OpenAI's form; more is found out. `functions` is whether its models call some,
    unless they refuse them. `models` are the names of all its models, where it is not to be asked.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        idle_timeout: float,
        *,
        context: int | None = None,
        slots: int | None = None,
        options: Mapping[str, Any] | None = None,
        quirks: Collection[Quirk] = (),
        functions: bool = True,
        models: Sequence[str] = (),
    ) -> None:
        """Prepares the client; the first request connects."""
        self.slots = slots
        self._functions = functions
        self._models = models
        self._dialects = Dialects(quirks)
        self._options = {"stream": True, "stream_options": {"include_usage": True}}
        self._options |= options or {}
        self._idle_timeout = idle_timeout
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._models_url = f"{base_url.rstrip('/')}/models"
        self._client = Client(base_url, api_key, idle_timeout)
        self.tokens = TokenCounter(self._client, base_url, context)

    async def list_models(self) -> object:
        """Returns the server's list of its models, in whatever form. Raises ModelError."""
        if self._models:
            return [*self._models]
        try:
            return await self._client.fetch(self._models_url)
        except _FAILURES as error:
            raise self._model_error(error) from error

    def calls_functions(self, model: str) -> bool:
        """Returns whether a model calls functions, as far as is known."""
        return self._functions and not self._dialects.refuses_tools(model)

    async def stream(self, request: Mapping[str, Any]) -> AsyncGenerator[list[Chunk], None]:
        """Yields the answer as it comes, and Finished once, last.

        What comes together is one list, never empty. `request` holds chat-completions parameters in
        OpenAI's form. What the server refuses of it before the first chunk is asked otherwise.
        Raises ModelError. Closing the generator closes the connection at once, which stops the
        model.
        """
        negotiation = Negotiation(self._dialects, {**request, **self._options})
        answered = False
        while True:
            try:
                answer = self._answer(request, negotiation)
                async with contextlib.aclosing(answer) as batches:
                    async for chunks in batches:
                        if not answered:
                            answered = True
                            negotiation.answered()
                        yield chunks
                return
            except ModelError as failure:
                if answered:
                    raise
                if not negotiation.failed(failure):
                    error = negotiation.error(failure)
                    if error.refusal is not None and refuses_tools(error.refusal, request):
                        self._dialects.learn_refusal_of_tools(request["model"])
                    raise error  # noqa: B904 (it may be the failure itself)

    async def _answer(
        self, request: Mapping[str, Any], negotiation: Negotiation
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yields the answer to one request, and Finished last. Raises ModelError."""
        reader = Reader(
            functions=_functions(request),
            think=Quirk.no_think not in negotiation.quirks,
            limit=request.get("max_completion_tokens"),
        )
        chunks: list[Chunk] = []
        failure: Exception | None = None
        try:
            answer = await self._client.post(self._url, negotiation.body)
            with contextlib.closing(answer) as response:
                events = Events(response)
                while not (events.ended or reader.broken_off):
                    if chunks:
                        yield chunks
                        chunks = []
                    for event in await events.read():
                        chunks += reader.read(event)
                        if reader.broken_off:
                            break
                if events.ended and not response.ended:
                    if chunks:
                        yield chunks
                        chunks = []
                    await events.drain()
        except _FAILURES as error:
            # All that can be missing after the end of the answer is its usage.
            failure = error if reader.reason is None else None
        if failure is None:
            try:
                chunks += await self._end(request, reader)
            except ModelError as error:
                failure = error
        if chunks:
            yield chunks
        if failure is not None:
            raised = self._model_error(failure)
            if raised.context is not None:
                await self.tokens.exceeded(request, raised.context)
            raise raised from failure

    async def _end(self, request: Mapping[str, Any], reader: Reader) -> list[Chunk]:
        """Returns the last chunks of an answer. Raises ModelError if it has no end."""
        end = reader.finish()
        if end.usage is not None:
            await self.tokens.learn(request, end.usage["prompt_tokens"])
        return [*reader.rest(), end]

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()

    def _model_error(self, error: Exception) -> ModelError:
        """Returns what a run may show of an error, and logs the rest."""
        failure = self._failure(error)
        log.warning(
            "model failed",
            code=failure.code,
            status=error.status if isinstance(error, Refused) else None,
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            cause=self._presentable(str(error.__cause__ or error)),
        )
        return ModelError(
            failure.code,
            self._presentable(failure.message),
            quoted=failure.quoted,
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            context=failure.context,
            refusal=failure.refusal,
        )

    def _failure(self, error: Exception) -> ModelError:
        """Returns what an error means, in the server's own words if it has any."""
        match error:
            case ModelError():
                return error
            case Refused(status=401 | 403):
                # What servers say here is about the key, and speaks to the operator.
                return ModelError("server_error", KEY_REFUSED)
            case Refused(status=status, body=body):
                text = error_text(body)
                return ModelError(
                    code_of(status),
                    text or f"The model server answered {status}.",
                    quoted=text is not None,
                    retryable=is_retryable(status, body),
                    retry_after=retry_after(error.headers),
                    context=exceeded_context(status, body),
                    refusal=refusal_of(status, body),
                )
            case Silent():
                message = f"The model server was silent for {self._idle_timeout:g} seconds."
                return ModelError("server_error", message, retryable=True)
            case Broken():
                message = "The connection to the model server failed."
                return ModelError("server_error", message, retryable=True)
            case _:
                return ModelError("server_error", NO_ANSWER)

    def _presentable(self, text: str) -> str:
        """Returns a text without URLs and our key, on one line, not too long, fit to be stored."""
        text = _URL.sub("[URL]", storable(text))
        for secret in self._client.secrets:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:MAX_MESSAGE]


def _functions(request: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the functions that a request declares."""
    functions = (tool.get("function") or {} for tool in request.get("tools") or ())
    return frozenset(function["name"] for function in functions if "name" in function)
