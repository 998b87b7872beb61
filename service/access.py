"""Who makes a call: the project that it works for, found by the key that it brings.

`Keyring` has the valid keys of the database in memory, by their digests, so that checking a key
costs no query. The keys are read again when their version has changed: that is looked up every
POLL seconds, which is how long a revoked key works at most, and before an unknown key is refused,
so that a new one works at once.
"""

import asyncio
import hashlib
import hmac
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc
import structlog

from service.errors import ApiError, Kind
from storage.errors import GONE, Unreachable
from storage.keys import DEFAULT_PROJECT, Keys

POLL = 2.0
"""Seconds between two looks at whether keys have changed."""

SHORT = 20
"""Characters below which nothing of a wrong key is shown: it may be a person's password."""

EDGE_SECRET = "x-edge-secret"
"""The metadata in which Envoy shows the secret of `ASSISTANTS_EDGE_SECRET`."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """The project of a call, by id and name, and the name and id of its key, if it has one."""

    project: str
    project_name: str
    key: str | None = None
    key_id: str | None = None


Identify = Callable[[Mapping[str, Any]], Awaitable[Identity]]
"""Returns whose call it is, by the call's metadata. Raises ApiError."""

_ANYBODY = Identity(DEFAULT_PROJECT, DEFAULT_PROJECT)


async def anybody(metadata: Mapping[str, Any]) -> Identity:
    """Returns the default project, whatever a call brings."""
    return _ANYBODY


def new_key() -> str:
    """Returns a new key, of 256 random bits."""
    return f"sk-{secrets.token_urlsafe(32)}"


def digest(key: str) -> str:
    """Returns what is stored of a key, and what it is found by: 256 random bits need no salt."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


class Keyring:
    """The valid keys, in memory."""

    def __init__(self, keys: Keys) -> None:
        """Knows none yet."""
        self._keys = keys
        self._known: dict[str, tuple[Identity, float]] = {}
        self._version: int | None = None
        self._lock = asyncio.Lock()
        self._looked = -math.inf
        self._failure: Exception | None = None

    async def identify(self, metadata: Mapping[str, Any]) -> Identity:
        """Returns whose the key is that a call brings. Raises ApiError, or Unreachable."""
        key = _given(metadata)
        found = self._find(key)
        if found is None:
            await self._look(monotonic())
            found = self._find(key)
        if found is None:
            raise ApiError(Kind.invalid_api_key, f"Incorrect API key provided: {masked(key)}.")
        wanted = metadata.get("openai-project") or found.project
        if wanted not in (found.project, found.project_name):
            message = "OpenAI-Project header should match project for API key."
            raise ApiError(Kind.mismatched_project, message)
        return found

    async def load(self, first_key: str | None) -> None:
        """Reads the keys; makes `first_key` one of the default project. Raises Unreachable."""
        if first_key is not None:
            await self._keys.ensure(DEFAULT_PROJECT, "bootstrap", digest(first_key))
        await self._look(monotonic())

    async def watch(self) -> None:
        """Reads the keys again whenever they have changed, until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            try:
                await self._look(monotonic())
            except Unreachable as error:
                # No call is answered meanwhile, whatever its key.
                log.warning("keys not read", reason=str(error))
            except Exception:
                log.warning("keys not read", exc_info=True)

    def _find(self, key: str) -> Identity | None:
        found, until = self._known.get(digest(key), (None, 0.0))
        return found if until > monotonic() else None

    async def _look(self, since: float) -> None:
        """Reads what has changed, unless another call has begun to do so after `since`.

        However many wrong keys come at once, one query answers them.
        """
        if self._keys.database.is_gone:
            raise Unreachable(GONE)
        async with self._lock:
            if self._looked < since:
                begun, failure = monotonic(), None
                try:
                    await self._read()
                except Exception as error:
                    failure = error
                # Not where the caller has gone away meanwhile: those who wait then look themselves.
                self._looked, self._failure = begun, failure
            if self._failure is not None:
                raise self._failure

    async def _read(self) -> None:
        begun = monotonic()
        if (found := await self._keys.valid(self._version)) is None:
            return
        self._known = {
            each.digest: (
                Identity(each.project, each.project_name, each.name, each.id),
                math.inf if each.expires_at is None else begun + each.expires_at - found.now,
            )
            for each in found.keys
        }
        self._version = found.version


class EdgeOnly(grpc.GenericRpcHandler):
    """Methods that only whoever shows the edge's secret can call: for others, there are none."""

    def __init__(self, handler: grpc.GenericRpcHandler, secret: str) -> None:
        """Hides the methods of `handler`."""
        self._handler = handler
        self._secret = secret.encode()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Returns the method, if there is one and the call may know of it."""
        method = self._handler.service(handler_call_details)
        if method is None:
            return None
        metadata: dict[str, Any] = dict(handler_call_details.invocation_metadata or ())
        if hmac.compare_digest(str(metadata.get(EDGE_SECRET, "")).encode(), self._secret):
            return method
        log.warning("call without the edge's secret", method=handler_call_details.method)
        return None


def masked(key: str) -> str:
    """Returns what an answer shows of a wrong key: its first three characters and its last two."""
    return "***" if len(key) < SHORT else f"{key[:3]}***{key[-2:]}"


def _given(metadata: Mapping[str, Any]) -> str:
    """Returns the key that a call brings, as OpenAI's clients send it, or as Azure's do."""
    scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    key = bearer or str(metadata.get("api-key", ""))
    if not key:
        raise ApiError(Kind.missing_api_key, "You didn't provide an API key.")
    return key
