"""Which models there are: what the model server lists, kept for a while."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog

from service.errors import ApiError, Kind
from service.models.failures import ModelError
from service.models.texts import storable
from service.types.models import Model
from storage.background import BackgroundTasks

log = structlog.get_logger(__name__)

KEPT = 60.0
"""Seconds for which a list is kept."""

PATIENCE = 10.0
"""Seconds that the model server may take to list its models."""

PAUSE = 5.0
"""Seconds after a request that failed in which the server is not asked again."""

AWAY = 60.0
"""Seconds after a failure in which nobody waits for a new list who can have an older one."""

MAX_MODELS = 10_000
MAX_ID = 256
"""Characters of an id, as requests for runs may have."""

OWNER = "system"
"""Who owns a model of which its server does not say."""

UNKNOWN = "The model server does not list its models. Try again later."


class Catalog:
    """The models of one model server."""

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        """`ask` returns the server's list in whatever form; it raises ModelError."""
        self._ask = ask
        self._models: dict[str, Model] | None = None
        self._until = 0.0
        self._failed_at = -math.inf
        self._background = BackgroundTasks()
        self._asking: asyncio.Task[None] | None = None

    async def list(self) -> list[Model]:
        """Returns all models. Raises ApiError where nothing is known of them."""
        return [*(await self._known()).values()]

    async def get(self, id: str) -> Model:
        """Returns a model. Raises ApiError."""
        model = (await self._known()).get(id)
        if model is None:
            message = f"The model '{id}' does not exist"
            raise ApiError(Kind.model_not_found, message, "model")
        return model

    async def _known(self) -> dict[str, Model]:
        if time.monotonic() >= self._until:
            # One request for all callers, which ends even if each of them has gone away.
            if self._asking is None or self._asking.done():
                self._asking = self._background.start(self._refresh())
            if self._models is None or time.monotonic() - self._failed_at > AWAY:
                await self._background.join(self._asking)
            else:
                # The older list is as good as what would come of waiting.
                self._background.detach(self._asking)
        if self._models is None:
            raise ApiError(Kind.unavailable, UNKNOWN)
        return self._models

    async def _refresh(self) -> None:
        """Asks for the list. An older one stays where there is no answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._ask()
        except (ModelError, TimeoutError) as error:
            log.warning("models not listed", problem=str(error) or "timeout")
            self._failed_at = time.monotonic()
            self._until = self._failed_at + PAUSE
            return
        self._models = {model.id: model for model in _read(answer)}
        self._failed_at = -math.inf
        self._until = time.monotonic() + KEPT


def _read(answer: object) -> Iterable[Model]:
    """Yields the models of a server's answer: OpenAI's list, or one of its kin."""
    listed: Any = answer
    if isinstance(answer, Mapping):
        listed = answer.get("data") or answer.get("models")
    if not isinstance(listed, list):
        return
    for each in listed[:MAX_MODELS]:
        id = each.get("id") or each.get("name") if isinstance(each, Mapping) else each
        if not isinstance(id, str) or not 0 < len(id) <= MAX_ID:
            continue
        about = each if isinstance(each, Mapping) else {}
        created, owner = about.get("created"), about.get("owned_by")
        yield Model(
            storable(id),
            created if type(created) is int and 0 <= created < 2**53 else 0,
            storable(owner) if isinstance(owner, str) and owner else OWNER,
        )
