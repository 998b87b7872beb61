"""What comes together from a model is given together, and nothing that has come is lost."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from service.models.client import ChatModel, Chunk, Finished, ModelError, TextDelta
from service.models.connections import MAX_BODY
from tests.models.conftest import serving
from tests.models.test_client import SECONDS, error_of, request
from tests.support.models.raw_server import RawServer, choice, events, whole

HEAD, _, HELLO = events(choice(content="Hel"), choice(content="lo")).partition(b"\r\n\r\n")
STOP = events(choice("stop"), "[DONE]").partition(b"\r\n\r\n")[2]
HEL, LO, END = TextDelta("Hel"), TextDelta("lo"), Finished("stop", None)


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


CHUNKED = HEAD + b"\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


class GatedServer:
    """Sends the parts of an answer one by one, each when the test asks, and closes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.go = asyncio.Semaphore(0)
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        await reader.readuntil(b"\r\n\r\n")
        for part in self.parts:
            await self.go.acquire()
            writer.write(part)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        self.closed.set()


@pytest.fixture
async def gated() -> AsyncIterator[tuple[GatedServer, ChatModel]]:
    server = GatedServer()
    async with serving(server.serve) as model:
        yield server, model


async def batches(model: ChatModel) -> list[list[Chunk]]:
    return [chunks async for chunks in model.stream(request())]


@pytest.mark.parametrize(
    "answer",
    [
        whole(HELLO + STOP, "content-type: text/event-stream"),
        CHUNKED + chunked(HELLO, STOP) + LAST,
        CHUNKED + chunked(*(bytes([byte]) for byte in HELLO + STOP)) + LAST,
        whole(gzip.compress(HELLO + STOP), "content-encoding: gzip"),
        whole(zlib.compress(HELLO + STOP), "content-encoding: deflate"),
    ],
    ids=["length", "chunks", "bytes", "gzip", "deflate"],
)
async def test_an_answer_that_comes_at_once(
    raw: RawServer, odd_model: ChatModel, answer: bytes
) -> None:
    raw.answer(answer)
    assert await batches(odd_model) == [[HEL, LO, END]]
    # It was asked for in a form that it came in.
    assert "\r\naccept-encoding: gzip, deflate\r\n" in raw.requests[0].lower()


async def test_each_part_is_given_as_it_comes(gated: tuple[GatedServer, ChatModel]) -> None:
    server, model = gated
    compressor = zlib.compressobj(wbits=31)
    middle = HELLO.index(b"\n\n") + 2
    pieces = [HELLO[:middle], HELLO[middle:], STOP]
    # Half an event comes with the one before it.
    parts = [compressor.compress(p) + compressor.flush(zlib.Z_SYNC_FLUSH) for p in pieces]
    head = HEAD + b"\r\ncontent-encoding: gzip\r\n\r\n"
    server.parts = [head + parts[0], parts[1], parts[2] + compressor.flush()]
    stream = model.stream(request())
    for expected in ([HEL], [LO], [END]):
        server.go.release()
        assert await asyncio.wait_for(anext(stream), SECONDS) == expected
    await stream.aclose()


async def test_what_comes_before_a_failure_is_given(raw: RawServer, odd_model: ChatModel) -> None:
    for failing in (b"data: {\n\n", b'data: {"error": {"message": "No more."}}\n\n'):
        raw.answers = [(whole(HELLO + failing),)]
        stream = odd_model.stream(request())
        assert await anext(stream) == [HEL, LO]
        with pytest.raises(ModelError):
            await anext(stream)


@pytest.mark.parametrize("head", [HEAD + b"\r\n\r\n", CHUNKED], ids=["plain", "chunked"])
@pytest.mark.parametrize("end", [STOP, b""], ids=["ended", "broken off"])
async def test_what_has_come_is_given_after_the_connection_broke(
    gated: tuple[GatedServer, ChatModel], head: bytes, end: bytes
) -> None:
    """However late it is asked for."""
    server, model = gated
    middle = HELLO.index(b"\n\n") + 2
    pieces = [HELLO[:middle], HELLO[middle:] + end]
    if head is CHUNKED:
        pieces = [chunked(piece) for piece in pieces]
    server.parts = [head + pieces[0], pieces[1]]
    stream = model.stream(request())
    server.go.release()
    assert await anext(stream) == [HEL]
    server.go.release()
    await asyncio.wait_for(server.closed.wait(), SECONDS)
    await asyncio.sleep(0.1)  # It has come: the client has only not looked.
    rest: list[Chunk] = []
    if end:
        rest = [chunk async for chunks in stream for chunk in chunks]
        assert rest == [LO, END]
    else:
        assert await anext(stream) == [LO]
        with pytest.raises(ModelError) as caught:
            await anext(stream)
        assert caught.value.retryable


@pytest.mark.parametrize("form", ["plain", "chunked", "length", "gzip", "gzip, chunked"])
async def test_much_that_has_come_is_given_after_the_connection_broke(
    raw: RawServer, odd_model: ChatModel, form: str
) -> None:
    text = "x" * 1000
    body = events(*[choice(content=text)] * 5000).partition(b"\r\n\r\n")[2] + STOP
    if "gzip" in form:
        body = gzip.compress(body, 1)
    parts = [body[start : start + 2**16] for start in range(0, len(body), 2**16)]
    head = HEAD + (b"\r\ncontent-encoding: gzip" if "gzip" in form else b"")
    if "chunked" in form:
        head, parts = head + b"\r\ntransfer-encoding: chunked", [*map(chunked, parts)]
    if "length" in form:
        head += b"\r\ncontent-length: %d" % (len(body) + 1)
    raw.answer(head + b"\r\n\r\n", *parts)
    stream = odd_model.stream(request())
    got = await anext(stream)
    await asyncio.sleep(0.2)
    async for chunks in stream:
        got += chunks
    assert got == [*[TextDelta(text)] * 5000, END]


@pytest.mark.parametrize("piece", [b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"])
async def test_an_event_without_an_end(raw: RawServer, odd_model: ChatModel, piece: bytes) -> None:
    raw.answer(HEAD + b"\r\n\r\ndata: ", *[piece] * (MAX_BODY // len(piece) + 2))
    error = await error_of(odd_model, request())
    assert error.message == "The model server sent something that is no answer."
    assert not error.retryable


async def test_an_answer_may_be_longer_than_an_event(raw: RawServer, odd_model: ChatModel) -> None:
    large = events(choice(content="x" * 2**20)).partition(b"\r\n\r\n")[2]
    raw.answer(HEAD + b"\r\n\r\n", *[large] * (MAX_BODY // 2**20 + 2), STOP)
    size = 0
    async for chunks in odd_model.stream(request()):
        size += sum(len(chunk.text) for chunk in chunks if isinstance(chunk, TextDelta))
    assert size == MAX_BODY + 2 * 2**20


@pytest.mark.parametrize(
    ("begin", "status"), [(b"data: ", 200), (b'{"choices": ["', 200), (b"", 200), (b"", 400)]
)
async def test_a_small_body_that_unpacks_to_a_large_one(
    raw: RawServer, odd_model: ChatModel, begin: bytes, status: int
) -> None:
    packed = zlib.compressobj(level=1, wbits=31)
    body = packed.compress(begin)
    for _ in range(6):
        body += packed.compress(b"x" * MAX_BODY)
    raw.answer(whole(body + packed.flush(), "content-encoding: gzip", status=status))
    tracemalloc.start()
    try:
        error = await error_of(odd_model, request())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not error.retryable
    assert peak < 3.5 * MAX_BODY


GZIPPED = gzip.compress(HELLO + STOP, mtime=0)


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (CHUNKED + chunked(HELLO), [HEL, LO]),
        (HEAD + b"\r\ncontent-length: 1000\r\n\r\n" + HELLO, [HEL, LO]),
        (CHUNKED + chunked(HELLO) + b"nonsense\r\n", []),
        (whole(GZIPPED[:-30], "content-encoding: gzip"), [HEL]),
        (whole(GZIPPED[:20] + b"nonsense" + GZIPPED[28:], "content-encoding: gzip"), []),
        (whole(HELLO, "content-encoding: gzip"), []),
        (whole(HELLO, "content-encoding: br"), []),
    ],
    ids=["cut chunks", "cut", "no chunk", "cut gzip", "broken gzip", "no gzip", "not asked for"],
)
async def test_a_body_that_is_broken(
    raw: RawServer, odd_model: ChatModel, answer: bytes, given: list[Chunk]
) -> None:
    raw.answer(answer)
    got: list[Chunk] = []
    with pytest.raises(ModelError) as caught:
        async for chunks in odd_model.stream(request()):
            got += chunks
    assert (caught.value.code, caught.value.retryable, got) == ("server_error", True, given)


@pytest.mark.parametrize(
    ("head", "nonsense"),
    [(CHUNKED, b"nonsense\r\n"), (HEAD + b"\r\ncontent-encoding: gzip\r\n\r\n", b"nonsense")],
    ids=["chunks", "gzip"],
)
async def test_a_body_that_breaks(
    gated: tuple[GatedServer, ChatModel], head: bytes, nonsense: bytes
) -> None:
    server, model = gated
    compressor = zlib.compressobj(wbits=31)
    packed = compressor.compress(HELLO) + compressor.flush(zlib.Z_SYNC_FLUSH)
    server.parts = [head + (chunked(HELLO) if head is CHUNKED else packed), nonsense, STOP]
    stream = model.stream(request())
    server.go.release()
    assert await anext(stream) == [HEL, LO]
    server.go.release()
    with pytest.raises(ModelError) as caught:
        await asyncio.wait_for(anext(stream), SECONDS)
    assert caught.value.retryable
    server.go.release()
