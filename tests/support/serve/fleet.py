"""Two servers behind one Envoy, as `assistants serve --processes 2` has them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.serve.processes import processes_of
from tests.support.stack import COMMAND, Stack


@contextmanager
def two_processes(env: Mapping[str, str]) -> Iterator[Stack]:
    """Starts them, and ends them in good order: no process is left, and no traceback was seen."""
    with Stack(dict(env), (COMMAND, "serve", "--processes", "2")) as stack:
        yield stack.start()
        assert stack.terminate() == 0, stack.printed()
        assert "Traceback" not in stack.printed()
        assert processes_of(stack) == {}
