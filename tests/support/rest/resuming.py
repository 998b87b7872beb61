"""A run's events as an EventSource reads them: numbered, and from any number on."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import httpx2

from tests.support.stack import Stack

SECONDS = 60


class Event(NamedTuple):
    """An event with its id; the data of `done` is its text."""

    id: int
    name: str
    data: Any


class Identified(Protocol):
    """A run, of either API."""

    id: str
    thread_id: str


class Reader:
    """Reads one run's events, in as many connections as a test likes."""

    def __init__(self, stack: Stack, run: Identified) -> None:
        """Connects to nothing yet."""
        self._url = f"{stack.base_url}/threads/{run.thread_id}/runs/{run.id}/events"

    @contextlib.contextmanager
    def open(
        self, last: int | None = None, comments: list[str] | None = None, **query: object
    ) -> Iterator[Iterator[Event]]:
        """Gives the events behind the one numbered `last`; appends comments to the list."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        with self._stream(headers, query) as response:
            assert (response.status_code, response.headers["content-type"]) == (
                200,
                "text/event-stream",
            )
            yield parsed(response.iter_lines(), [] if comments is None else comments)

    def read(self, last: int | None = None, **query: object) -> list[Event]:
        """Returns all events up to the end of the stream."""
        with self.open(last, None, **query) as events:
            return list(events)

    def refusal(self, last: str | None = None, **query: object) -> tuple[int, dict[str, Any]]:
        """Returns the status and the error of a request that is refused."""
        headers = {} if last is None else {"Last-Event-ID": last}
        with self._stream(headers, query) as response:
            response.read()
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert body.keys() == {"error"}
        return response.status_code, body["error"]

    @contextlib.contextmanager
    def _stream(
        self, headers: Mapping[str, str], query: Mapping[str, object]
    ) -> Iterator[httpx2.Response]:
        params = {name: str(value) for name, value in query.items()}
        with (
            httpx2.Client(timeout=SECONDS) as client,
            client.stream("GET", self._url, headers=headers, params=params) as response,
        ):
            yield response


def one_at_a_time(reader: Reader, last: int) -> Iterator[Event]:
    """Yields what follows, each event from a connection of its own that is cut behind it."""
    while True:
        with reader.open(last) as events:
            event = next(events)
        last = event.id
        yield event
        if event.name in ("done", "error"):
            return


def texts(events: list[Event]) -> str:
    """Returns the text of all deltas."""
    return "".join(
        part["text"]["value"]
        for event in events
        if event.name == "thread.message.delta"
        for part in event.data["delta"]["content"]
    )


def parsed(lines: Iterator[str], comments: list[str]) -> Iterator[Event]:
    """Yields the events of a stream, and appends its comments to the list.

    An error that the stream ends with has no number: clients go on behind the event before it.
    """
    last = 0
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            comments.append(line)
        elif line:
            name, _, value = line.partition(": ")
            assert name not in fields, line
            fields[name] = value
        else:
            numbered = fields.get("event") != "error" or "id" in fields
            assert list(fields) == ["id", "event", "data"][not numbered :]
            last, data = int(fields.get("id", last)), fields["data"]
            yield Event(last, fields["event"], data if data == "[DONE]" else json.loads(data))
            fields = {}
    assert not fields, "the stream breaks off"
