"""The model of the load: it takes its time, and counts how often it is asked for each run."""

import itertools
import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.support.model_server import ModelServer
from tests.support.script import Calls, Paced, Step

NAME = re.compile(r"run (r-\d+)")
"""What a run's instructions say of it."""

PAUSE = 0.03
"""Seconds before each piece of an answer."""


class Model:
    """Answers each request with another text, which names the run."""

    def __init__(self, models: ModelServer) -> None:
        """Is a model of this server."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.asked = Counter[str]()
        """How many requests there were, by the name of the run."""
        self.plain = models.model(self._answer)
        self.calling = models.model(self._call_first)

    def names(self) -> str:
        """Returns a new name for a run, which its instructions are to have."""
        with self._lock:
            return f"r-{next(self._numbers)}"

    def said(self, name: str, text: str) -> bool:
        """Whether the text is, from its beginning to its end, one that a run of this name got."""
        number = text.partition(" ")[0]
        return number.isdecimal() and text == _text(name, int(number))

    def _answer(self, request: Mapping[str, Any]) -> Step:
        name = self._name(request)
        return Paced(_text(name, self.asked[name]), PAUSE)

    def _call_first(self, request: Mapping[str, Any]) -> Step:
        name = self._name(request)
        if request["messages"][-1]["role"] == "tool":
            return Paced(_text(name, self.asked[name]), PAUSE)
        return Calls(("look", {"at": name}))

    def _name(self, request: Mapping[str, Any]) -> str:
        found = NAME.search(str(request["messages"][0]["content"]))
        assert found
        self.asked[found[1]] += 1
        return found[1]


def _text(name: str, number: int) -> str:
    return f"{number} is what {name} gets, {'in many small pieces, ' * 4}up to the end of {number}."
