"""Warns of variables that look like settings and are none, such as `ASSISTANTS_MODEL_URL`."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import structlog

from service.settings import Settings

PREFIX = "ASSISTANTS_"

OF_CLIENTS = ("ASSISTANTS_API_KEY",)
"""What the commands that call a server read."""

log = structlog.get_logger(__name__)


def warn(environment: Iterable[str]) -> None:
    """Logs a warning for each name that is unknown, with the known one that is nearest."""
    for name, nearest in misspelt(environment):
        log.warning("unknown setting", name=name, nearest=nearest)


def misspelt(environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Finds the names that are unknown; gives each with the known one that is nearest."""
    names = sorted(name for name in environment if name.upper().startswith(PREFIX))
    known = [*(f"{PREFIX}{field.upper()}" for field in Settings.model_fields), *OF_CLIENTS]
    services = _of_kubernetes(names)
    for name in names:
        if name.upper() not in known and not name.startswith(services):
            [nearest] = get_close_matches(name.upper(), known, n=1, cutoff=0)
            yield name, nearest


def _of_kubernetes(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the beginnings of what Kubernetes sets for its services `assistants`, `assistants-…`.

    Such as `ASSISTANTS_SERVICE_HOST` and `ASSISTANTS_PORT_8080_TCP_ADDR`.
    """
    host = "SERVICE_HOST"
    services = {PREFIX, *(name.removesuffix(host) for name in names if name.endswith(f"_{host}"))}
    return tuple(f"{service}{kind}" for service in services for kind in ("SERVICE_", "PORT"))
