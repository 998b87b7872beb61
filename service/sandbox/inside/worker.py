"""The interpreter: code in on standard input, what it puts out as frames on standard output.

One JSON object a line in both directions, so that whatever carries three pipes can carry it. The
server believes nothing that comes out of here. This file is complete: it is sent to other machines
as text. Besides the standard library it needs IPython.
"""

import ast
import base64
import collections
import contextlib
import fcntl
import io
import json
import os
import queue
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

DATA = "/mnt/data"
"""Where the code's files are, as the code knows it."""

PIPE = 1024 * 1024
"""Bytes that the pipe behind the code's output holds: the code may hold Python's lock meanwhile."""

GATHER = 0.02
"""Seconds for which text is gathered, unless a call ends meanwhile."""

SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
"""How the data of each kind of image begin."""

HEAD = 1000
"""Bytes of an image's frame beside its data, at most."""

Frame = dict[str, Any]


class Channel:
    """The frames' way to the server."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is a process that the code has forked, which has nothing to send."""
        return os.getpid() != self._owner

    def send(self, kind: str, **fields: object) -> None:
        """Sends a frame; ends the process when the server is gone."""
        if self.forked:
            return
        text = json.dumps({"type": kind, **fields}, ensure_ascii=False)
        data = text.encode(errors="replace") + b"\n"
        view = memoryview(data)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                os._exit(1)


class Output(threading.Thread):
    """What is written to the descriptors 1 and 2, by whatever process, as text frames in order.

    Of each call, the first half of the limit is sent at once, and the last half at its end.
    """

    def __init__(self, channel: Channel, limit: int, real: str | None) -> None:
        super().__init__(daemon=True)
        self._channel = channel
        self._half = limit // 2
        self._real = (real or "").encode()
        self._reader, self._writer = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE)
        self._asked, self._ask = os.pipe()
        self._drained = threading.Event()
        self._lock = threading.Lock()
        self._calling = False
        self._sent = 0
        self._kept = 0
        self._dropped = 0
        self._last: collections.deque[bytes] = collections.deque()
        self._rest = b""
        self.stream = _stream()
        self._attach()

    def run(self) -> None:
        """Reads until the process ends."""
        sources = [self._reader, self._asked]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if self._asked not in ready:
                # More may come: each frame is an event for everybody who follows the run.
                ready += select.select([self._asked], [], [], GATHER)[0]
            size = PIPE
            if self._asked in ready:
                os.read(self._asked, 1)
                # What is there now, and not what goes on and on.
                size = struct.unpack("i", fcntl.ioctl(self._reader, termios.FIONREAD, bytes(4)))[0]
            while size > 0:
                data = os.read(self._reader, min(size, PIPE))
                with self._lock:
                    self._add(data)
                size -= len(data) if self._asked in ready else size
            if self._asked in ready:
                self._drained.set()

    def begin(self) -> None:
        """A call begins: what was written since the last one belongs to it."""
        self.drain()
        self._attach()
        with self._lock:
            self._calling = True
            earlier = b"".join(self._last)
            self._last.clear()
            self._kept = 0
            self._add(earlier)

    def drain(self) -> None:
        """Waits until all is sent that has been written so far."""
        for stream in (sys.stdout, sys.stderr, self.stream):
            # The code may have closed it, or put something else in its place.
            with contextlib.suppress(Exception):
                stream.flush()
        if self._channel.forked:
            return
        self._drained.clear()
        os.write(self._ask, b"?")
        self._drained.wait(5)

    def end(self) -> None:
        """A call ends: its last text is sent."""
        self.drain()
        with self._lock:
            self._calling = False
            last = b"".join(self._last)
            if self._dropped:
                self._send(b"", last=True)
                last = b"\n[... %d bytes left out ...]\n" % self._dropped + last
            self._send(last, last=True)
            self._last.clear()
            self._kept = self._dropped = self._sent = 0

    def _attach(self) -> None:
        """Lets all output come here, whatever the code has closed or replaced."""
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)
        # One object, so that both are in order. What it replaces may close it.
        sys.stdout = sys.stderr = self.stream
        if self.stream.closed:
            sys.stdout = sys.stderr = self.stream = _stream()

    def _add(self, data: bytes) -> None:
        """Sends data, or keeps it for the end of the call."""
        now = data[: max(0, self._half - self._sent)] if self._calling else b""
        if now:
            self._sent += len(now)
            self._send(now)
        if later := data[len(now) :]:
            self._last.append(later)
            self._kept += len(later)
        while self._kept > self._half:
            first = self._last.popleft()
            over = min(self._kept - self._half, len(first))
            self._dropped += over
            self._kept -= over
            if first[over:]:
                self._last.appendleft(first[over:])

    def _send(self, data: bytes, last: bool = False) -> None:
        """Sends text; holds back a character, or the folder's path, that may go on."""
        data = self._rest + data
        cut = len(data) if last else self._whole(data)
        self._rest = data[cut:]
        if text := data[:cut]:
            if self._real:
                text = text.replace(self._real, DATA.encode())
            self._channel.send("text", text=text.decode(errors="replace"))

    def _whole(self, data: bytes) -> int:
        for size in range(min(len(self._real) - 1, len(data)), 0, -1):
            if data.endswith(self._real[:size]):
                return len(data) - size
        for back in range(1, min(3, len(data)) + 1):
            byte = data[-back]
            if byte >= 0xC0:
                needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                return len(data) - back if needed > back else len(data)
            if byte < 0x80:
                break
        return len(data)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="replace", line_buffering=True
    )


class Alias(ast.NodeTransformer):
    """Replaces /mnt/data by the folder's real path in the constants of a piece of code."""

    def __init__(self, real: str) -> None:
        self._real = real

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Visits a constant."""
        value = node.value
        if isinstance(value, str) and DATA in value:
            value = value.replace(DATA, self._real)
        elif isinstance(value, bytes) and DATA.encode() in value:
            value = value.replace(DATA.encode(), self._real.encode())
        else:
            return node
        return ast.copy_location(ast.Constant(value, node.kind), node)


class Interpreter:
    """IPython, with frames in place of a terminal."""

    def __init__(
        self, channel: Channel, output: Output, shown: Callable[[str], str], most: int
    ) -> None:
        """`shown` makes texts of the code's what the server is sent; `most` bytes has a frame."""
        from IPython.core.displayhook import DisplayHook
        from IPython.core.displaypub import DisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets import Type
        from traitlets.config import Config

        def show(data: dict[str, Any]) -> None:
            for mime in SIGNATURES:
                image = _image(mime, data.get(mime))
                if image is None:
                    continue
                text = base64.b64encode(image).decode()
                if len(text) > most - HEAD:
                    output.stream.write(f"[An image of {len(image)} bytes is too large to show]\n")
                    return
                output.drain()
                channel.send("image", mime=mime, data=text)
                return
            if "text/plain" in data:
                output.stream.write(f"{data['text/plain']}\n")

        class Publisher(DisplayPublisher):  # type: ignore[misc]
            def publish(self, data: dict[str, Any], *args: object, **kwargs: object) -> None:
                show(data)

        class Hook(DisplayHook):  # type: ignore[misc]
            def write_format_data(self, data: dict[str, Any], *args: object) -> None:
                show(data)

            def write_output_prompt(self) -> None:
                pass

            def finish_displayhook(self) -> None:
                pass

        class Shell(InteractiveShell):  # type: ignore[misc]
            display_pub_class = Type(Publisher)
            displayhook_class = Type(Hook)

            def _tee(self, channel: str) -> Any:  # It would keep all that is printed.
                return contextlib.nullcontext()

            def enable_gui(self, gui: object = None) -> None:
                pass

            def ask_exit(self) -> None:
                raise SystemExit

            def system(self, command: str) -> None:
                output.stream.flush()
                expanded = self.var_expand(command, depth=1)
                self.user_ns["_exit_code"] = subprocess.call(expanded, shell=True)

            def _showtraceback(self, kind: type, value: object, lines: list[str]) -> None:
                output.drain()
                channel.send(
                    "error",
                    name=kind.__name__[:200],
                    value=shown(_text(value)),
                    traceback=shown(_middle("\n".join(lines))),
                )

        warnings.filterwarnings("ignore", message="To exit: use")
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        config.InteractiveShell.cache_size = 0
        self._shell = Shell.instance(config=config)

    def alias(self, real: str) -> None:
        """Lets the code find its files under /mnt/data though they are elsewhere."""
        self._shell.ast_transformers.append(Alias(real))

    def run(self, code: str) -> None:
        """Runs code as a cell."""
        self._shell.run_cell(code, store_history=False)


def _image(mime: str, body: object) -> bytes | None:
    """Returns an image as the code displays it, in base64 or not; None where it is none."""
    try:
        data = base64.b64decode(body) if isinstance(body, str) else body
    except ValueError:
        return None
    return data if isinstance(data, bytes) and data.startswith(SIGNATURES[mime]) else None


def _text(value: object) -> str:
    try:
        return _middle(str(value), 10_000)
    except Exception as error:
        return f"<{type(error).__name__} in str()>"


def _middle(text: str, most: int = 100_000) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - most} characters left out ...]\n{text[-half:]}"


class Worker:
    """Takes calls one after the other, and interrupts while one runs."""

    def __init__(self, config: dict[str, Any], control: io.BufferedIOBase) -> None:
        real = config.get("alias")

        def shown(text: str) -> str:
            return text.replace(real, DATA) if real else text

        self._control = control
        self._calls: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._running = False
        self._channel = Channel(os.dup(1))
        self.services: dict[str, Callable[[Frame, Channel], None]] = {}
        with _reporting():
            _empty_input()
            self._output = Output(self._channel, config["text"], real)
            self._output.start()
            _prepare_home(config)
            self._interpreter = Interpreter(self._channel, self._output, shown, config["frame"])
            if real:
                self._interpreter.alias(real)
            threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> None:
        """Runs calls until the server is gone."""
        signal.signal(signal.SIGINT, self._interrupted)
        self._channel.send("ready")
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                frame = self._calls.get()
                if service := self.services.get(frame["do"]):
                    service(frame, self._channel)
                else:
                    self._call(frame)

    def _call(self, frame: Frame) -> None:
        self._output.begin()
        try:
            self._running = True
            self._interpreter.run(frame["code"])
        except KeyboardInterrupt:
            self._channel.send("error", name="KeyboardInterrupt", value="", traceback="")
        except SystemExit:
            pass
        finally:
            self._running = False
            signal.signal(signal.SIGINT, self._interrupted)
        if self._channel.forked:
            self._output.drain()
            os._exit(0)
        self._output.end()
        self._channel.send("end", id=frame["id"])

    def _listen(self) -> None:
        for line in self._control:
            frame = json.loads(line)
            if frame["do"] == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                self._calls.put(frame)
        os._exit(0)

    def _interrupted(self, number: int, stack: object) -> None:
        if self._running:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Lets the server read why the worker could not start, which would go where output goes."""
    words = os.dup(2)
    try:
        yield
    except BaseException:
        os.dup2(words, 2)
        sys.stderr = sys.__stderr__
        raise
    finally:
        os.close(words)


def _empty_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _prepare_home(config: dict[str, Any]) -> None:
    """Puts the fonts that matplotlib has found at installation where it looks for them."""
    os.environ["IPYTHONDIR"] = os.path.join(os.environ["HOME"], ".ipython")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["MPLCONFIGDIR"] = target = os.path.join(os.environ["HOME"], ".matplotlib")
    if fonts := config.get("fonts"):
        with contextlib.suppress(OSError):
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(fonts):
                shutil.copyfile(os.path.join(fonts, name), os.path.join(target, name))


def main(config: dict[str, Any]) -> None:
    """Serves on the standard streams."""
    Worker(config, os.fdopen(os.dup(0), "rb")).serve()
