"""Gives Envoy the server's certificate, and the new one when it is replaced.

Envoy takes a changed secret for new connections, and leaves those that are open as they are. It
notices only files that are moved, and certificates are written in many ways: so this looks.
"""

import asyncio
import os
from base64 import b64encode
from pathlib import Path

import orjson
import structlog

from service.process.certificates import Certificate, Pair
from service.settings import Settings

PACKAGE = "envoy.extensions.transport_sockets.tls.v3"

NAME = "server"
"""The secret's name."""

POLL_SECONDS = 1.0
"""How often the files are read."""

log = structlog.get_logger(__name__)


def path(settings: Settings) -> Path:
    """Returns the file in which Envoy finds the certificate and its key."""
    return settings.data_dir.absolute() / "tls.json"


def write(settings: Settings, pair: Pair) -> None:
    """Writes the file, which only its owner may read."""
    secret = {
        "@type": f"type.googleapis.com/{PACKAGE}.Secret",
        "name": NAME,
        "tls_certificate": {
            "certificate_chain": {"inline_bytes": b64encode(pair.certificate).decode()},
            "private_key": {"inline_bytes": b64encode(pair.key).decode()},
        },
    }
    new = path(settings).with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps({"resources": [secret]}))
    new.replace(path(settings))


async def watch(settings: Settings, certificate: Certificate) -> None:
    """Writes the file again whenever the certificate is replaced, until it is cancelled."""
    written, problem = certificate.pair, None
    while True:
        await asyncio.sleep(POLL_SECONDS)
        certificate.reload()
        found = certificate.problem
        if certificate.pair != written:
            try:
                write(settings, certificate.pair)
            except OSError as error:
                # A disk that is full now may have space at the next look.
                found = f"{path(settings)}: {error.strerror}"
            else:
                written = certificate.pair
                log.info("certificate reloaded", file=str(settings.tls_cert))
        if found not in (None, problem):
            log.warning("certificate not reloaded", reason=found)
        problem = found
