"""As much of HTTP/2 as it takes to say what no client would say, without TLS."""

import contextlib
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.schemas import validate
from tests.stack import Stack
from tests.waiting import SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4),
    *(6, 7, 8, 9),
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1

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
        # No dynamic table: what comes back can be read frame by frame.
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 1, 0)))

    def send(self, *frames: bytes) -> None:
        """Sends frames, so far as the server takes them."""
        # It may have had enough of them.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(b"".join(frames))

    def request(self, stream: int, fields: Fields, body: bytes | None = None) -> None:
        """Sends a request; its stream must be odd and higher than those before."""
        block = encoded(fields)
        end = END_STREAM if body is None else 0
        frames = [frame(HEADERS, END_HEADERS | end, stream, block)]
        if body is not None:
            frames.append(frame(DATA, END_STREAM, stream, body))
        self.send(*frames)

    def read(self, *streams: int) -> dict[int, Answer]:
        """Reads until each of these streams has ended, or all at once."""
        answers = {stream: Answer() for stream in streams}
        open_streams = set(streams)
        while open_streams:
            try:
                head = self._file.read(9)
            except ConnectionResetError:
                break
            if len(head) < 9:
                break
            length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
            stream = int.from_bytes(head[5:])
            data = self._file.read(length)
            if kind == GOAWAY and data[4:8] != bytes(4):
                break
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0, b""))
            if stream not in open_streams:
                continue
            answer = answers[stream]
            if kind == HEADERS and not answer.status:
                answer.status = _status(data)
            elif kind == DATA:
                answer.data += data
                if data:
                    size = struct.pack(">I", len(data))
                    self.send(frame(WINDOW_UPDATE, 0, 0, size))
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                open_streams.remove(stream)
        return answers

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
