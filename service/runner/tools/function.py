"""Functions, which callers define and execute."""

from collections.abc import Mapping
from typing import Any


class Function:
    """The tool of type `function`. Its calls are what a run in `requires_action` waits for."""

    type = "function"

    def definition(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the function as the caller has defined it."""
        return dict(given)
