"""What has become of the load so far: counted, timed, and what should not have happened."""

import threading
from collections import Counter
from dataclasses import dataclass, field

KINDS = ("plain", "function", "cancelled")


@dataclass
class Record:
    """What all callers have seen. Threads share it."""

    case: str = "no fault"
    over: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """Of each run that was asked for, by its name."""
    conversations: Counter[int] = field(default_factory=Counter)
    """How many runs each caller has seen end, each on a thread that took it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Counts something."""
        with self._lock:
            self.counts[what] += 1

    def violation(self, what: str) -> None:
        """Takes in what should not have happened."""
        with self._lock:
            self.violations.append(f"{self.case}: {what}")

    def asked_for(self, name: str, kind: str) -> None:
        """Takes in a run that is being created."""
        with self._lock:
            self.kinds[name] = kind

    def ended(self, caller: int) -> None:
        """Takes in that a caller has seen its run end, and found all as it must be."""
        with self._lock:
            self.conversations[caller] += 1
            self.counts["runs"] += 1
