"""The connection of a server to NATS, which is made again whenever it is lost."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import StreamConfig

from service.errors import SettingsError
from service.process import metrics
from service.process.waiting import wait_at_most

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 2.0
"""Seconds without an answer after which NATS is away."""

PING_SECONDS = 1.0
"""Seconds between two looks at whether a connection is alive; it is closed at the third in vain."""

RETRY_SECONDS = 0.25
"""Seconds between two tries to find NATS again."""

START_SECONDS = 5.0
"""Seconds that a server waits for NATS at its start, before it goes on without."""

NAME_IN_USE = 10058
"""The error of a stream that is there already, otherwise configured."""

OutOfReach = (nats.errors.Error, OSError, TimeoutError)
"""What the client raises when NATS does not answer, or not with what was asked for."""

Handler = Callable[[Msg], None]
"""Takes a message. It neither waits nor raises."""


class Away(Exception):
    """NATS does not answer, or is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """Where NATS is, and how a service uses it."""

    servers: tuple[str, ...]
    """URLs of one cluster, such as nats://user:password@host:4222 or tls://host:4222."""
    credentials: Path | None = None
    """A file with a user's JWT and seed."""
    ca: Path | None = None
    """A PEM file with the authorities of the servers' certificates, beside the system's."""
    prefix: str = "assistants"
    """What the names of all streams and subjects begin with: one service's."""
    replicas: int = 1
    """How many servers of the cluster keep a stream."""


class Connection:
    """A connection that is made again whenever it is lost, for as long as that takes."""

    def __init__(self, settings: NatsSettings) -> None:
        """Connects at `open`."""
        self.prefix = settings.prefix
        self._settings = settings
        self._client: Client | None = None
        self._streams: list[StreamConfig] = []
        self._created: dict[str, Any] = {}
        """When each stream was made, by its name."""
        self._handlers: dict[str, Handler] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._when_up: list[Callable[[bool], object]] = []
        self._work: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._problem: Exception | None = None
        metrics.NATS_UP.labels(self.prefix).set(0)
        metrics.NATS_OUTAGES.labels(self.prefix)

    @property
    def up(self) -> bool:
        """Whether NATS has answered last time, with all streams in place."""
        return self._up.is_set()

    async def wait_up(self) -> None:
        """Waits until NATS is there."""
        await self._up.wait()

    async def wait_down(self) -> None:
        """Waits until NATS is away."""
        await self._down.wait()

    def add_stream(self, name: str, **config: Any) -> str:
        """Has a stream made, or configured, whenever NATS is there again. Returns its name."""
        stream = f"{self.prefix}-{name}"
        replicas = self._settings.replicas
        self._streams.append(StreamConfig(name=stream, num_replicas=replicas, **config))
        return stream

    def when_up(self, call: Callable[[bool], object]) -> None:
        """Calls `call` whenever NATS is there (again), with whether it has lost its streams.

        What was sent meanwhile has not arrived.
        """
        self._when_up.append(call)

    async def open(self) -> None:
        """Connects, and waits a while for the streams; what is away is looked for until `close`.

        Raises SettingsError where NATS refuses what is configured.
        """
        _check(self._settings)
        self._down.set()
        self._work = asyncio.create_task(self._keep(), name="nats")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._wait_told()
        if not self.up:
            problem = self._problem
            if _refused(problem):
                await self.close()
                raise SettingsError(f"ASSISTANTS_NATS_URL: {problem}")
            log.warning("nats away", error=str(problem))

    async def _wait_told(self) -> None:
        """Waits until NATS is there, or refuses."""
        while not (self.up or _refused(self._problem)):
            await wait_at_most(self._up, RETRY_SECONDS)

    async def close(self) -> None:
        """Disconnects."""
        if self._work is not None:
            # The client takes a cancellation for a failed try where it comes in the middle of one.
            while not self._work.done():
                self._work.cancel()
                await asyncio.wait([self._work], timeout=RETRY_SECONDS)
        self._up.clear()
        await self._disconnect()

    async def tell(self, subject: str, data: bytes) -> None:
        """Sends a message to whoever is there to receive it. It may be lost."""
        with contextlib.suppress(Away, *OutOfReach):
            await self.client().publish(subject, data)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Has `handler` called with each message from now on, as long as NATS is there."""
        self._handlers[subject] = handler
        if self._client is not None and not self._client.is_closed:
            await self._receive(self._client, subject)

    async def unsubscribe(self, subject: str) -> None:
        """Ends a subscription."""
        self._handlers.pop(subject, None)
        if (subscription := self._subscriptions.pop(subject, None)) is not None:
            with contextlib.suppress(*OutOfReach):
                await subscription.unsubscribe()

    async def _receive(self, client: Client, subject: str) -> None:
        handler = self._handlers.get(subject)
        if handler is None:
            return

        async def receive(message: Msg) -> None:
            try:
                handler(message)
            except Exception:
                log.error("message not taken", subject=message.subject, exc_info=True)

        with contextlib.suppress(*OutOfReach):
            subscription = await client.subscribe(subject, cb=receive)
            if subject in self._handlers:
                self._subscriptions[subject] = subscription
            else:
                await subscription.unsubscribe()

    def client(self) -> Client:
        """Returns the client of NATS. Raises Away."""
        if self._client is None or not self._client.is_connected:
            raise self.lost(None)
        return self._client

    def lost(self, error: Exception | None) -> Away:
        """Takes in that NATS is away."""
        if self.up:
            log.warning("nats away", error=str(error or self._problem or "disconnected"))
            metrics.NATS_OUTAGES.labels(self.prefix).inc()
        self._up.clear()
        self._down.set()
        metrics.NATS_UP.labels(self.prefix).set(0)
        return Away(str(error))

    async def _keep(self) -> None:
        """Finds NATS again whenever it is away, until cancelled."""
        while True:
            await self._down.wait()
            try:
                if self._client is None or self._client.is_closed:
                    await self._connect()
                again = await self._restore()
            except Exception as error:
                if self._problem is None or not isinstance(error, Away):
                    self._problem = error
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._down.clear()
            self._up.set()
            self._problem = None
            metrics.NATS_UP.labels(self.prefix).set(1)
            log.info("nats there")
            for call in self._when_up:
                call(again)

    async def _connect(self) -> None:
        await self._disconnect()
        self._subscriptions.clear()
        self._client = client = Client()
        settings = self._settings
        await client.connect(
            servers=list(settings.servers),
            name="assistants",
            user_credentials=None if settings.credentials is None else str(settings.credentials),
            tls=_context(settings),
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            connect_timeout=2,
            reconnect_time_wait=RETRY_SECONDS,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING_SECONDS,  # type: ignore[arg-type]
            max_outstanding_pings=2,
        )
        for subject in self._handlers.keys() - self._subscriptions.keys():
            await self._receive(client, subject)

    async def _disconnect(self) -> None:
        if self._client is not None:
            # What is left to send is of no use to a peer that does not read.
            with contextlib.suppress(*OutOfReach):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._client.close()

    async def _restore(self) -> bool:
        """Makes what streams lack; returns whether one of them has been made anew."""
        client = self.client()
        api, before = client.jetstream(timeout=ANSWER_SECONDS), dict(self._created)
        for config in self._streams:
            try:
                info = await api.add_stream(config)
            except nats.js.errors.APIError as error:
                if error.err_code != NAME_IN_USE:
                    raise
                info = await api.update_stream(config)
            self._created[config.name or ""] = info.created
        return bool(before) and before != self._created

    async def _failed(self, error: Exception) -> None:
        self._problem = error
        if isinstance(error, nats.errors.SlowConsumerError):
            # Messages were dropped: whoever receives any reads what it lacks.
            self.lost(error)

    async def _disconnected(self) -> None:
        self.lost(None)


def _check(settings: NatsSettings) -> None:
    """Raises SettingsError for a file that cannot be read."""
    for name, path in (("CREDENTIALS", settings.credentials), ("CA", settings.ca)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise SettingsError(f"ASSISTANTS_NATS_{name}: {path}: {error.strerror}") from None


def _refused(problem: Exception | None) -> bool:
    """Returns whether NATS is there, and will say the same next time."""
    if isinstance(problem, nats.js.errors.APIError):
        # A cluster that has no leader yet.
        return problem.code != 503
    text = str(problem).lower()
    return "authorization" in text or "certificate" in text


def _context(settings: NatsSettings) -> ssl.SSLContext | None:
    if not any(urlsplit(url).scheme == "tls" for url in settings.servers):
        return None
    context = ssl.create_default_context()
    if settings.ca is not None:
        context.load_verify_locations(settings.ca)
    return context
