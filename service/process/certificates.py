"""A certificate, its key, and the authorities of callers: files that are replaced in time."""

import ssl
from abc import ABC, abstractmethod
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


class _Files(ABC):
    """Files of PEM that belong together, as they were when they last were right."""

    def __init__(self, names: str, *files: Path) -> None:
        """Reads the files that these settings name. Raises SettingsError where they are wrong."""
        self._files = files
        self.problem: str | None = None
        """Why the files are wrong now, if they are: then `contents` are the last right ones."""
        try:
            self.contents = self._read()
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{names}: {error.strerror or error}") from None

    def reload(self) -> bool:
        """Reads the files again; returns whether the contents are others now."""
        before = self.contents
        try:
            self.contents, self.problem = self._read(), None
        except (OSError, ssl.SSLError) as error:
            self.problem = error.strerror or str(error)
        return self.contents != before

    def _read(self) -> tuple[bytes, ...]:
        """Returns the contents. Raises OSError and SSLError, also between the writes of two."""
        contents = None
        # What was checked is what was read.
        while contents != (contents := tuple(file.read_bytes() for file in self._files)):
            self._check()
        return contents

    @abstractmethod
    def _check(self) -> None:
        """Raises SSLError where the files are not what they should be."""


class Certificate(_Files):
    """The two files of a server's certificate."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        settings: str = "ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY",
    ) -> None:
        """Reads the files that `settings` name. Raises SettingsError where they are no pair."""
        super().__init__(settings, certificate, key)

    @property
    def pair(self) -> Pair:
        """The last that was one."""
        return Pair(*self.contents)

    def _check(self) -> None:
        certificate, key = self._files
        # A password is never asked for.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")


class Authorities(_Files):
    """The file of those whose certificates callers must have."""

    def __init__(self, file: Path) -> None:
        """Reads the file. Raises SettingsError where there are none in it."""
        super().__init__("ASSISTANTS_TLS_CLIENT_CA", file)

    @property
    def pem(self) -> bytes:
        """The last that were some."""
        return self.contents[0]

    def reload(self) -> bool:
        """Reads the file again; returns whether it has others now. None is a line of the log."""
        before = self.problem
        changed = super().reload()
        if self.problem not in (None, before):
            log.warning("authorities of callers not reloaded", reason=self.problem)
        return changed

    def _check(self) -> None:
        ssl.create_default_context(cafile=self._files[0])


def server_credentials(certificate: Certificate, client_ca: Path | None) -> grpc.ServerCredentials:
    """Returns credentials of one port, which take replaced files for new connections.

    With `client_ca`, a file of authorities, callers must have a certificate from one of them.
    Raises SettingsError where there are none in it.
    """
    authorities = None if client_ca is None else Authorities(client_ca)

    def configuration() -> grpc.ServerCertificateConfiguration:
        pairs = [(certificate.pair.key, certificate.pair.certificate)]
        trusted = None if authorities is None else authorities.pem
        return grpc.ssl_server_certificate_configuration(pairs, trusted)

    def for_new_connection() -> grpc.ServerCertificateConfiguration | None:
        # Both are looked at.
        changed = certificate.reload() | (authorities is not None and authorities.reload())
        # Never the same again: gRPC would put it in the place of the one that other handshakes use,
        # and crash (grpc/grpc#36693).
        return configuration() if changed else None

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        # None is what it takes for unchanged, whatever its types say.
        for_new_connection,  # type: ignore[arg-type]
        require_client_authentication=authorities is not None,
    )
