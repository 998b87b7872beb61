"""Writes a run's events as server-sent events, as OpenAI's API does."""

from collections.abc import Iterable, Iterator

from service.types.events import Event

CONTENT_TYPE = "text/event-stream"

KEEP_ALIVE = b": keep-alive\n"
"""A comment. No blank line follows, of which the official clients would make an empty event."""

PORTION = 64 << 10
"""Bytes of a piece: events that are ready together travel together up to it."""


def encode(event: Event, *, with_id: bool = False) -> bytes:
    """Returns one event: `event: NAME`, `data: JSON`, and the blank line that ends it.

    With its number as `id: NUMBER` before them, if asked for.
    """
    line = b"id: %d\n" % event.number if with_id else b""
    return b"%sevent: %s\ndata: %s\n\n" % (line, event.name.encode(), event.data)


def portions(events: Iterable[Event], *, with_ids: bool) -> Iterator[bytes]:
    """Yields events that are ready together, in as few pieces as PORTION allows."""
    portion = bytearray()
    for event in events:
        portion += encode(event, with_id=with_ids)
        if len(portion) >= PORTION:
            yield bytes(portion)
            portion.clear()
    if portion:
        yield bytes(portion)
