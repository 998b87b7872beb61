"""Gives Envoy its certificates, and the new ones when they are replaced.

Envoy takes a changed secret for new connections, and leaves those that are open as they are. It
notices only files that are moved, and certificates are written in many ways: so this looks.
"""

import asyncio
import contextlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from service.process.certificates import Certificate, Pair
from service.settings import Settings

PACKAGE = "envoy.extensions.transport_sockets.tls.v3"

POLL_SECONDS = 1.0
"""How often the files are read."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Secret:
    """A certificate that Envoy has, with its key, under a name."""

    name: str
    files: Callable[[Settings], tuple[Path | None, Path | None]]
    """The files of the settings, if there are any."""
    settings: str
    """What sets them."""

    def path(self, settings: Settings) -> Path:
        """Returns the file in which Envoy finds the certificate and its key."""
        return settings.data_dir.absolute() / f"tls-{self.name}.json"

    def reference(self, settings: Settings) -> dict[str, Any]:
        """Returns how Envoy's configuration names it."""
        source = {"path_config_source": {"path": str(self.path(settings))}}
        return {"name": self.name, "sds_config": source}

    def write(self, settings: Settings, pair: Pair) -> None:
        """Writes the file, which only its owner may read."""
        secret = {
            "@type": f"type.googleapis.com/{PACKAGE}.Secret",
            "name": self.name,
            "tls_certificate": {
                "certificate_chain": {"inline_bytes": b64encode(pair.certificate).decode()},
                "private_key": {"inline_bytes": b64encode(pair.key).decode()},
            },
        }
        new = self.path(settings).with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps({"resources": [secret]}))
        new.replace(self.path(settings))


SERVER = Secret(
    "server",
    lambda settings: (settings.tls_cert, settings.tls_key),
    "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY",
)
"""What Envoy's callers see."""

UPSTREAMS = Secret(
    "upstreams",
    lambda settings: (settings.grpc_upstreams_cert, settings.grpc_upstreams_key),
    "ASSISTANTS_GRPC_UPSTREAMS_CERT, ASSISTANTS_GRPC_UPSTREAMS_KEY",
)
"""What Envoy shows to servers on other machines."""


@contextlib.asynccontextmanager
async def kept_up_to_date(settings: Settings) -> AsyncIterator[None]:
    """Writes what Envoy is to have, again whenever it is replaced. Raises SettingsError."""
    watching = []
    for secret in (SERVER, UPSTREAMS):
        certificate, key = secret.files(settings)
        if certificate is not None and key is not None:
            pair = Certificate(certificate, key, secret.settings)
            secret.write(settings, pair.pair)
            watching.append(asyncio.create_task(_watch(secret, settings, pair), name="certificate"))
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _watch(secret: Secret, settings: Settings, certificate: Certificate) -> None:
    written, problem = certificate.pair, None
    while True:
        await asyncio.sleep(POLL_SECONDS)
        certificate.reload()
        found = certificate.problem
        if certificate.pair != written:
            try:
                secret.write(settings, certificate.pair)
            except OSError as error:
                # A disk that is full now may have space at the next look.
                found = f"{secret.path(settings)}: {error.strerror}"
            else:
                written = certificate.pair
                log.info("certificate reloaded", file=str(secret.files(settings)[0]))
        if found not in (None, problem):
            log.warning("certificate not reloaded", reason=found)
        problem = found
