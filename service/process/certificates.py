"""A certificate and its key, in two files that are replaced before it expires."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.errors import SettingsError


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


def server_credentials(certificate: Certificate, client_ca: Path | None) -> grpc.ServerCredentials:
    """Returns credentials that take a replaced certificate for new connections.

    With `client_ca`, a file of authorities, callers must have a certificate from one of them.
    Raises SettingsError where there are none in it.
    """
    authorities = None
    if client_ca is not None:
        try:
            ssl.create_default_context(cafile=client_ca)
            authorities = client_ca.read_bytes()
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise SettingsError(f"ASSISTANTS_TLS_CLIENT_CA: {reason}") from None

    def configuration() -> grpc.ServerCertificateConfiguration:
        pairs = [(certificate.pair.key, certificate.pair.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, authorities)

    current = configuration()

    def for_new_connection() -> grpc.ServerCertificateConfiguration:
        nonlocal current
        if certificate.reload():
            current = configuration()
        return current

    return grpc.dynamic_ssl_server_credentials(
        current, for_new_connection, require_client_authentication=authorities is not None
    )
