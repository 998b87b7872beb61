"""A sampling profiler inside the server: where its CPU time goes, by function, in all threads.

SIGUSR1 starts it, SIGUSR2 ends it and writes what it found to the file that `BENCH_PROFILE` names.
A sample weighs what its thread has computed since the one before: a thread that waits, nothing.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

FILE: Final = "BENCH_PROFILE"
PAUSE: Final = 0.002
"""Seconds between two samples."""

SWITCH: Final = 1e-5
"""Seconds after which other threads give way. By default they may reach a wait before that, so that
samples would show waits alone."""

LINES: Final = 40
"""Functions that are listed."""


class Profiler:
    """One profile, from `start` to `stop`."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="profiler", daemon=True)
        self._own: Counter[str] = Counter()
        self._with_callees: Counter[str] = Counter()
        self._total = 0
        self.samples = 0
        """How many have found a thread at work."""
        self._switch = sys.getswitchinterval()

    def start(self) -> None:
        """Begins to sample."""
        sys.setswitchinterval(SWITCH)
        self._thread.start()

    def stop(self) -> str:
        """Ends, and returns a table: of the CPU time of Python's threads, in percent."""
        self._stop.set()
        self._thread.join()
        sys.setswitchinterval(self._switch)
        lines = ["own %  with callees %  function"]
        total = max(self._total, 1)
        for name, own in self._own.most_common(LINES):
            deep = self._with_callees[name]
            lines.append(f"{own / total:5.1%}  {deep / total:14.1%}  {name}")
        lines += ["", "with callees %  function"]
        for name, deep in self._with_callees.most_common(LINES):
            lines.append(f"{deep / total:14.1%}  {name}")
        return "\n".join(lines) + "\n"

    def _sample(self) -> None:
        before: dict[int, int] = {}
        while not self._stop.wait(PAUSE):
            for thread, frame in sys._current_frames().items():
                if thread == threading.get_ident():
                    continue
                try:
                    now = time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
                except OSError:
                    continue  # It has ended.
                spent = now - before.get(thread, now)
                before[thread] = now
                if spent:
                    self._count(frame, spent)

    def _count(self, frame: FrameType, spent: int) -> None:
        self.samples += 1
        self._total += spent
        self._own[_name(frame)] += spent
        names: set[str] = set()
        caller: FrameType | None = frame
        while caller is not None:
            names.add(_name(caller))
            caller = caller.f_back
        for name in names:
            self._with_callees[name] += spent


def _name(frame: FrameType) -> str:
    code = frame.f_code
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}:{code.co_firstlineno} {code.co_qualname}"


def install() -> None:
    """Answers the two signals, if the environment names a file."""
    file = os.environ.get(FILE)
    if file is None:
        return
    running: list[Profiler] = []

    def start(*_: object) -> None:
        profiler = Profiler()
        running.append(profiler)
        profiler.start()

    def stop(*_: object) -> None:
        text = running.pop().stop()
        # As a whole or not at all: who waits for the file reads it once it is there.
        partial = Path(f"{file}.part")
        partial.write_text(text)
        partial.rename(file)

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGUSR2, stop)
