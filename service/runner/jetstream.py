"""What the queue and the bus of a server ask of NATS JetStream."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import nats.errors
import nats.js.errors
import orjson
from nats.aio.msg import Msg

from service.runner.connection import ANSWER_SECONDS, Away, Connection, OutOfReach

HEADROOM = 4096
"""Bytes of a message that are left for its headers, its subject and what adapters add."""

NOT_STORED = 10077
"""The error of a message for which a stream has no place, or has not under its subject."""


class Refused(Exception):
    """A stream does not take a message."""

    def __init__(self, code: int) -> None:
        """`code` is the server's number of the error."""
        super().__init__(code)
        self.code = code


class Stored(NamedTuple):
    """A message of a stream."""

    sequence: int
    data: bytes


class JetStream(Connection):
    """Streams and their messages, over a connection that may be away."""

    @property
    def most(self) -> int:
        """Bytes of a message's data at most."""
        return max(self._client.max_payload if self._client else 0, 2 * HEADROOM) - HEADROOM

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> int:
        """Stores a message in the stream of its subject, and returns its number there.

        Raises Refused, Away.
        """
        client = self.client()
        try:
            stored = await client.jetstream().publish(
                subject, data, timeout=ANSWER_SECONDS, headers=dict(headers) if headers else None
            )
        except nats.js.errors.APIError as error:
            if error.code == 503 and error.err_code != NOT_STORED:
                raise self.lost(error) from error
            raise Refused(error.err_code or 0) from error
        except OutOfReach as error:
            raise self.lost(error) from error
        return stored.seq

    async def request(self, subject: str, asked: Mapping[str, Any]) -> Msg | None:
        """Asks JetStream's API; returns None where nothing is there to answer. Raises Away."""
        client = self.client()
        try:
            return await client.request(
                f"$JS.API.{subject}", orjson.dumps(asked), timeout=ANSWER_SECONDS
            )
        except nats.errors.NoRespondersError:
            return None
        except OutOfReach as error:
            raise self.lost(error) from error

    async def confirm(self, reply: str, data: bytes) -> None:
        """Says what becomes of a message, and waits until that is so. It may be lost."""
        with contextlib.suppress(Away, nats.errors.NoRespondersError, *OutOfReach):
            await self.client().request(reply, data, timeout=ANSWER_SECONDS)

    async def next_message(self, stream: str, consumer: str) -> Msg | None:
        """Returns a consumer's next message, a status if it has none, None if there is no consumer.

        Raises Away.
        """
        client = self.client()
        asked = orjson.dumps({"batch": 1, "no_wait": True})
        try:
            return await client.request(
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
                asked,
                timeout=ANSWER_SECONDS,
                # The answer has the subject under which it is stored, not the inbox's.
                old_style=True,
            )
        except nats.errors.NoRespondersError:
            return None
        except OutOfReach as error:
            raise self.lost(error) from error

    async def stored(self, stream: str, subject: str, after: int) -> list[Stored]:
        """Returns what a stream has of a subject above this number, in order. Raises Away."""
        found, more = list[Stored](), True
        while more:
            portion, more = await self._portion(stream, subject, after)
            found += portion
            after = found[-1].sequence if found else after
            more = more and bool(portion)
        return found

    async def _portion(self, stream: str, subject: str, after: int) -> tuple[list[Stored], bool]:
        """Returns the next messages, as many as come at once, and whether there are more."""
        client = self.client()
        found = list[Stored]()
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            headers = message.headers or {}
            if "Status" not in headers:
                found.append(Stored(int(headers["Nats-Sequence"]), message.data))
            elif not over.done():
                over.set_result(int(headers.get("Nats-Num-Pending", 0)) > 0)

        asked = {"seq": after + 1, "next_by_subj": subject, "batch": 1000}
        try:
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox, cb=receive)
            try:
                question = orjson.dumps(asked)
                await client.publish(f"$JS.API.DIRECT.GET.{stream}", question, reply=inbox)
                async with asyncio.timeout(ANSWER_SECONDS):
                    return found, await over
            finally:
                await subscription.unsubscribe()
        except OutOfReach as error:
            raise self.lost(error) from error


def token(id: str) -> str:
    """Returns an id in the form that subjects and names of NATS may have."""
    return (
        id if id.replace("_", "").replace("-", "").isalnum() and id.isascii() else id.encode().hex()
    )
