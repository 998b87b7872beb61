"""Makes load: the same call again and again, by many clients at once, in a process of its own.

h2load, which is compiled, takes little of the machine itself. Where it is missing, a driver in
Python makes the load, and takes more: rates are lower then, and so are all limits.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self

H2LOAD: Final = "h2load"
MISSING: Final = (
    "h2load is missing (Debian: apt-get install nghttp2-client). A slower driver in Python makes "
    "the load: rates are lower; ratios are still of the same run."
)
GRPC_HEADERS: Final = {"content-type": "application/grpc", "te": "trailers"}
JSON_HEADERS: Final = {"content-type": "application/json"}
PATIENCE: Final = 900
"""Seconds that a load may take."""

_BODY_BYTES: Final = re.compile(r"^traffic:.* \((\d+)\) data$", re.MULTILINE)


class LoadError(Exception):
    """A load failed, or answers were not what they should be; the message says how."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call. Each client takes the URLs in turn, and POSTs one of the bodies, if there are any."""

    urls: tuple[str, ...]
    bodies: tuple[bytes, ...] = ()
    protocol: Literal["http", "grpc"] = "http"
    key: str = ""
    """The key that it brings, if any. It is shown in the command line of h2load."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its request."""
        key = {"authorization": f"Bearer {self.key}"} if self.key else {}
        if self.protocol == "grpc":
            return GRPC_HEADERS | key
        return (JSON_HEADERS if self.bodies else {}) | key

    def to_json(self) -> dict[str, object]:
        """Returns the call as the driver reads it."""
        bodies = [body.decode("latin-1") for body in self.bodies]
        return asdict(self) | {"bodies": bodies, "headers": self.headers}


def http(url: str, body: object = None, key: str = "") -> Call:
    """Returns a GET of a URL, or a POST of a value as JSON."""
    return Call((url,), () if body is None else (json.dumps(body).encode(),), key=key)


def grpc(address: str, method: str, *messages: bytes) -> Call:
    """Returns a unary call of `package.Service/Method` with any of the messages."""
    return Call((f"http://{address}/{method}",), tuple(map(_framed, messages)), "grpc")


def _framed(message: bytes) -> bytes:
    # Not compressed, and of that length.
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclass(frozen=True, slots=True)
class Load:
    """What a load took, as its clients saw it."""

    seconds: float
    """From the first request to the last answer."""
    latencies: tuple[float, ...]
    """Seconds that each call took, ascending."""
    body_bytes: int
    """Of all answers together."""

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    def percentile(self, percent: int) -> float:
        """Returns how many seconds so many of a hundred calls took at most."""
        return percentile(self.latencies, percent)


def percentile(values: Iterable[float], percent: int) -> float:
    """Returns the value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


class Generator(Protocol):
    """Makes load."""

    name: str

    def run(self, call: Call, clients: int, calls: int) -> Load:
        """Makes `calls` calls by `clients` clients, of which each waits for its answers.

        Both are multiples of the number of bodies, if there are several. Raises LoadError where any
        call was not answered by 200 or OK.
        """


def generator() -> Generator:
    """Returns the best there is on this machine."""
    return H2Load() if shutil.which(H2LOAD) else PythonDriver()


class H2Load:
    """nghttp2's load generator: HTTP/1.1, and gRPC, as HTTP/2 is all that it takes."""

    name = H2LOAD

    def run(self, call: Call, clients: int, calls: int) -> Load:
        """Makes the calls. An error of gRPC, which is a 200 too, shows in the bytes only."""
        parts = max(len(call.bodies), 1)
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            # One process takes one body.
            started = [
                _start(call, Path(directory, str(part)), part, clients // parts, calls // parts)
                for part in range(parts)
            ]
            printed = [process.communicate(timeout=PATIENCE)[0] for process in started]
            logs = [Path(directory, str(part), "log") for part in range(parts)]
            if any(process.returncode for process in started) or not all(map(Path.exists, logs)):
                raise LoadError("h2load: " + "\n".join(printed))
            return from_logs([log.read_text() for log in logs], printed, calls)


def _start(
    call: Call, directory: Path, part: int, clients: int, calls: int
) -> "subprocess.Popen[str]":
    directory.mkdir()
    (directory / "urls").write_text("\n".join(call.urls))
    command = [H2LOAD, f"--clients={clients}", f"--requests={calls}"]
    command += ["--input-file=urls", "--log-file=log"]
    command += [f"--header={name}: {value}" for name, value in call.headers.items()]
    if call.protocol == "http":
        command.append("--h1")
    if call.bodies:
        (directory / "body").write_bytes(call.bodies[part])
        command.append("--data=body")
    return subprocess.Popen(
        command, cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def from_logs(logs: Sequence[str], printed: Sequence[str], calls: int) -> Load:
    """Returns what h2load's logs of calls and its summaries say together. Raises LoadError."""
    lines = (line for log in logs for line in log.splitlines())
    rows = [tuple(map(int, line.split("\t"))) for line in lines]
    if (good := sum(status == 200 for _, status, _ in rows)) != calls:
        raise LoadError(f"{good} of {calls} calls were answered by 200\n" + "\n".join(printed))
    seconds = (max(start + took for start, _, took in rows) - min(row[0] for row in rows)) / 1e6
    body_bytes = sum(int(found) for text in printed for found in _BODY_BYTES.findall(text))
    return Load(seconds, tuple(sorted(took / 1e6 for _, _, took in rows)), body_bytes)


class PythonDriver:
    """The load generator for machines that have no other: `bench.driver`."""

    name = "driver in Python"

    def run(self, call: Call, clients: int, calls: int) -> Load:
        """Makes the calls."""
        with Driver("load", call, clients=clients, calls=calls) as driver:
            result = driver.result()
        latencies = tuple(sorted(result["latencies"]))
        return Load(result["seconds"], latencies, result["body_bytes"])


class Driver:
    """`bench.driver` at a job, in a process of its own, which ends with the `with` block."""

    def __init__(self, job: str, call: Call, **options: object) -> None:
        """Starts the job."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A server that hangs fails its case, and not the whole run.
        self._watchdog = threading.Timer(PATIENCE, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "call": call.to_json()} | options) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Waits for what the job says when it is done. Raises LoadError."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"the driver failed: {self._process.stderr.read() or 'no answer'}")
        result: dict[str, Any] = json.loads(line)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closes its standard input: a job that holds streams open closes them and ends.
        self._process.communicate(timeout=PATIENCE)
        self._watchdog.cancel()
