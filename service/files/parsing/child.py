"""The entry of the child that parses one file.

It is started as `python -I -m … <pid of the server> <bytes> <CPU seconds> <extension>`. The file
is its standard input. It writes frames to its standard output: a letter, the length in four bytes,
that many bytes. `T` is a piece of text, `E` why there is none, `Z` the end, `L` what went wrong,
for the log. Its limits are set before anything else is imported.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Iterator

NICE = 5
"""Those who wait for an answer go first."""

PIECE = 2**16
"""Characters of a frame, or one more."""

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Parses the file."""
    parent, memory, cpu_seconds = map(int, sys.argv[1:4])
    _limit(memory, cpu_seconds)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the server is gone")
    out = os.fdopen(os.dup(1), "wb", buffering=2**16)
    # What a parser prints is not to be taken for a frame.
    os.dup2(2, 1)

    def send(letter: bytes, text: str = "") -> None:
        data = text.encode(errors="replace")
        out.write(letter + struct.pack(">I", len(data)) + data)

    from service.files.parsing import Refused

    try:
        for piece in pieces(_read(sys.argv[4])):
            send(b"T", piece)
        send(b"Z")
    except Refused as error:
        send(b"E", error.reason)
    except MemoryError:
        send(b"E", "too_large")
    except Exception as error:
        # Whatever a parser says of a file that is not as it should be.
        send(b"L", f"{type(error).__name__}: {error}"[:1000])
        send(b"E", "damaged")
    out.flush()
    # Nothing is to be tidied up, and a parser's destructors may hang.
    os._exit(0)


def _limit(memory: int, cpu_seconds: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # The kernel kills with SIGKILL at the hard limit, with SIGXCPU, which we can tell, before.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    os.nice(NICE)


def _read(ended: str) -> Iterator[str]:
    from service.files.parsing.kinds import Kind, kind_of

    # Opened again, so that its offset is nobody else's.
    file = open("/proc/self/fd/0", "rb")  # noqa: SIM115
    match kind_of(file, ended):
        case Kind.pdf:
            from service.files.parsing import pdf

            return pdf.read(file)
        case Kind.html:
            from service.files.parsing import html

            return html.read(file)
        case Kind.text:
            from service.files.parsing import text

            return text.read(file)
        case kind:
            from service.files.parsing import office

            read = {
                Kind.docx: office.read_docx,
                Kind.pptx: office.read_pptx,
                Kind.xlsx: office.read_xlsx,
            }
            return read[kind](file)


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts in pieces of a good size, without what no text has."""
    gathered: list[str] = []
    size = 0
    for text in texts:
        gathered.append(text)
        size += len(text)
        if size >= PIECE:
            whole = "".join(gathered)
            # What follows may belong to it: CR LF is one end of a line.
            end = size - whole.endswith("\r")
            yield from _cut(whole, end)
            gathered, size = [whole[end:]], size - end
    yield from _cut("".join(gathered), size)


def _cut(text: str, length: int) -> Iterator[str]:
    at = 0
    while at < length:
        end = min(at + PIECE, length)
        if text[end - 1 : end + 1] == "\r\n":
            end += 1
        yield _clean(text[at:end])
        at = end


_DROPPED = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0x7F, 0xFEFF, *range(0xD800, 0xE000)])


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_DROPPED)


if __name__ == "__main__":
    main()
