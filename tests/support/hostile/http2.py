"""As much of HTTP/2 as it takes to say what no client would say, without TLS."""

import contextlib
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.schemas import validate
from tests.support.stack import Stack
from tests.support.waiting import SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4),
    *(6, 7, 8, 9),
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW = 4

Fields = Sequence[tuple[bytes, bytes]]

_INDEXED = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {
    f"{0b011001 + number:06b}": str(number + 3) for number in range(7)
}


@dataclass
class Answer:
    """What came back on one stream: `status` 0 and no data where it was reset."""

    status: int = 0
    data: bytes = b""
    ended: bool = False
    window: int = 0
    """Bytes that the server takes on the stream, beyond what it takes at first."""

    def check(self) -> "Answer":
        """Fails unless it is a 2xx, or a 4xx in OpenAI's form."""
        assert 200 <= self.status < 300 or 400 <= self.status < 500, self
        if self.status >= 400:
            validate("ErrorResponse", self.body)
        return self

    @property
    def body(self) -> Any:
        """The JSON of the answer."""
        return json.loads(self.data)


class Connection:
    """A connection on which frames are written one by one."""

    def __init__(self, server: Stack) -> None:
        """Connects and says hello."""
        host, _, port = server.env["ASSISTANTS_HTTP_ADDRESS"].rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self._file = self.socket.makefile("rb")
        self._answers: dict[int, Answer] = {}
        self._window = self._initial_window = 65_535
        # No dynamic table: what comes back can be read frame by frame.
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 1, 0)))

    def send(self, *frames: bytes) -> None:
        """Sends frames, so far as the server takes them."""
        # It may have had enough of them.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(b"".join(frames))

    def request(self, stream: int, fields: Fields, body: bytes | None = None) -> None:
        """Sends a request; its stream must be odd and higher than those before."""
        self._answers[stream] = Answer()
        block = encoded(fields)
        end = END_STREAM if body is None else 0
        frames = [frame(HEADERS, END_HEADERS | end, stream, block)]
        if body is not None:
            frames.append(frame(DATA, END_STREAM, stream, body))
        self.send(*frames)

    def upload(self, stream: int, data: bytes) -> None:
        """Sends a body as fast as the server wants it, until it has answered."""
        answer = self._answers.setdefault(stream, Answer())
        while data and not answer.ended:
            size = min(len(data), 16_384, self._window, answer.window + self._initial_window)
            if size <= 0:
                if not self._read_frame():
                    return
                continue
            piece, data = data[:size], data[size:]
            self.send(frame(DATA, 0 if data else END_STREAM, stream, piece))
            self._window -= size
            answer.window -= size

    def read(self, *streams: int) -> dict[int, Answer]:
        """Reads until each of these streams has ended, or all at once."""
        answers = {stream: self._answers.setdefault(stream, Answer()) for stream in streams}
        while not all(answer.ended for answer in answers.values()):
            if not self._read_frame():
                break
        return answers

    def _read_frame(self) -> bool:
        """Reads a frame; returns False where there are no more."""
        try:
            head = self._file.read(9)
        except ConnectionResetError:
            return False
        if len(head) < 9:
            return False
        length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
        stream = int.from_bytes(head[5:])
        data = self._file.read(length)
        if kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", data):
                if name == INITIAL_WINDOW:
                    self._initial_window = value
            self.send(frame(SETTINGS, ACK, 0, b""))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(data)
        elif stream in self._answers:
            self._feed(self._answers[stream], stream, kind, flags, data)
        return not (kind == GOAWAY and any(data[4:8]))

    def _feed(self, answer: Answer, stream: int, kind: int, flags: int, data: bytes) -> None:
        if kind == WINDOW_UPDATE:
            answer.window += int.from_bytes(data)
        elif kind == HEADERS and not answer.status:
            answer.status = _status(data)
        elif kind == DATA and data:
            answer.data += data
            size = struct.pack(">I", len(data))
            self.send(*[frame(WINDOW_UPDATE, 0, which, size) for which in (0, stream)])
        answer.ended |= kind == RST_STREAM or bool(kind in (DATA, HEADERS) and flags & END_STREAM)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns one frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def encoded(fields: Fields) -> bytes:
    """Returns header fields as literals that no table remembers."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def fields(method: bytes, path: bytes, *more: tuple[bytes, bytes]) -> Fields:
    """Returns the usual fields of a request, and more."""
    first = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"h")]
    return [*first, *more]


def _text(value: bytes) -> bytes:
    length, head = len(value), b""
    if length < 127:
        return bytes([length]) + value
    head, length = b"\x7f", length - 127
    while length >= 128:
        head, length = head + bytes([length % 128 + 128]), length // 128
    return head + bytes([length]) + value


def _status(block: bytes) -> int:
    # It comes first, after a change of the table's size.
    while block[0] & 0xE0 == 0x20:
        block = block[1:]
    if block[0] & 0x80:
        return _INDEXED[block[0] & 0x7F]
    length, value = block[1] & 0x7F, block[2:]
    if not block[1] & 0x80:
        return int(value[:length])
    bits, digits, code = "".join(f"{byte:08b}" for byte in value[:length]), "", ""
    for bit in bits:
        code += bit
        if code in _DIGITS:
            digits, code = digits + _DIGITS[code], ""
    return int(digits)
