"""A certificate, its key, and the authorities of callers: files that are replaced in time."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from service.errors import SettingsError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with those between it and its authority, and its key, as PEM."""

    certificate: bytes
    key: bytes


class Certificate:
    """The two files of a server's certificate."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        settings: str = "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY",
    ) -> None:
        """Reads the files that `settings` name. Raises SettingsError where they are no pair."""
        self._files = (certificate, key)
        try:
            pair = self._read()
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise SettingsError(f"{settings}: {reason}") from None
        self.pair = pair
        self.problem: str | None = None
        """Why the files are no pair now, if they are not: then `pair` is the last one that was."""

    def reload(self) -> bool:
        """Reads the files again; returns whether the pair is another one now."""
        before = self.pair
        try:
            self.pair, self.problem = self._read(), None
        except (OSError, ssl.SSLError) as error:
            self.problem = error.strerror or str(error)
        return self.pair != before

    def _read(self) -> Pair:
        """Returns the pair. Raises OSError and SSLError, also between the writes of the two."""
        pair = None
        # What was checked is what was read.
        while pair != (pair := Pair(*(file.read_bytes() for file in self._files))):
            # A password is never asked for.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files, password="")
        return pair


class Authorities:
    """The file of those whose certificates callers must have."""

    def __init__(self, file: Path) -> None:
        """Reads the file. Raises SettingsError where there are none in it."""
        self._file = file
        self._problem: str | None = None
        try:
            self.pem = self._read()
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise SettingsError(f"ASSISTANTS_TLS_CLIENT_CA: {reason}") from None

    def reload(self) -> bool:
        """Reads the file again; returns whether it has others now. None is a line of the log."""
        before, problem = self.pem, self._problem
        try:
            self.pem, self._problem = self._read(), None
        except (OSError, ssl.SSLError) as error:
            self._problem = error.strerror or str(error)
        if self._problem not in (None, problem):
            log.warning("authorities of callers not reloaded", reason=self._problem)
        return self.pem != before

    def _read(self) -> bytes:
        pem = None
        # What was checked is what was read.
        while pem != (pem := self._file.read_bytes()):
            ssl.create_default_context(cafile=self._file)
        return pem


def server_credentials(certificate: Certificate, client_ca: Path | None) -> grpc.ServerCredentials:
    """Returns credentials that take replaced files for new connections.

    With `client_ca`, a file of authorities, callers must have a certificate from one of them.
    Raises SettingsError where there are none in it.
    """
    authorities = None if client_ca is None else Authorities(client_ca)

    def configuration() -> grpc.ServerCertificateConfiguration:
        pairs = [(certificate.pair.key, certificate.pair.certificate)]
        trusted = None if authorities is None else authorities.pem
        return grpc.ssl_server_certificate_configuration(pairs, trusted)

    current = configuration()

    def for_new_connection() -> grpc.ServerCertificateConfiguration:
        nonlocal current
        # Both are looked at.
        if certificate.reload() | (authorities is not None and authorities.reload()):
            current = configuration()
        return current

    return grpc.dynamic_ssl_server_credentials(
        current, for_new_connection, require_client_authentication=authorities is not None
    )
