"""The settings of what a server listens on, and of what it takes there."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from service.errors import SettingsError
from service.setting_types import Address, Addresses, ChosenSecret, Origins, Seconds


class ListeningSettings(BaseSettings):
    """A part of the settings of one server (service/settings.py)."""

    http_address: Address = "127.0.0.1:8080"
    """Where Envoy serves /v1: HOST:PORT."""

    grpc_address: Address = "127.0.0.1:50051"
    """Where gRPC is served: HOST:PORT."""

    reflection: bool = True
    """Whether gRPC describes itself to clients. It needs no key: the .proto files are public."""

    grpc_max_request_bytes: int = Field(default=32 * 2**20, ge=2**16, lt=2**31)
    """Bytes of a request of gRPC at most. A longer one is refused: RESOURCE_EXHAUSTED."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=2**16, le=64 * 2**20)
    """Bytes of a body of REST at most. A longer one is a 413."""

    max_file_bytes: int = Field(default=512 * 2**20, ge=1)
    """Bytes of a file that comes in one call at most. A larger one is a 413.

    Files of vector stores, too: one that came in parts and is larger is not indexed.
    """

    max_upload_bytes: int = Field(default=8 * 2**30, ge=1)
    """Bytes of a file that comes in parts at most."""

    max_part_bytes: int = Field(default=64 * 2**20, ge=1)
    """Bytes of such a part at most. A larger one is a 413."""

    upload_timeout: Seconds = 3600.0
    """Seconds in which a request must be whole, be it the upload of a file; then it is a 408.

    Of a file or part, a minute without a byte ends it, too.
    """

    max_header_kib: int = Field(default=60, ge=8, le=96)
    """KiB of a request's headers at most. More are a 431."""

    max_connections: int = Field(default=10_000, ge=1, lt=2**31)
    """Connections that Envoy keeps at most, or as many files as it may open. More are closed."""

    max_streams: int = Field(default=1000, ge=1, lt=2**31)
    """Calls at once on one connection of HTTP/2 at most. More wait in the client."""

    headers_timeout: Seconds = 30.0
    """Seconds that the headers of a request may take to arrive."""

    request_timeout: Seconds = 120.0
    """Seconds without a byte, either way, that end a POST: a 408 where its request is not whole.

    Streams have no limit, as they get comments while they are silent: so it must be more than
    `keep_alive_seconds`.
    """

    idle_timeout: Seconds = 600.0
    """Seconds after which a connection without a request is closed."""

    cors_origins: Origins = ()
    """Origins whose pages may call the server from browsers, separated by commas, or `*`."""

    tls_cert: Path | None = None
    """A PEM file with the certificate, and those up to its authority: then both ports speak TLS.

    It and the key are read again when they change. Connections that are open go on.
    """

    tls_key: Path | None = None
    """A PEM file with the certificate's key, without a password."""

    tls_client_ca: Path | None = None
    """A PEM file with authorities: callers of the gRPC port must have a certificate from one.

    It is read again when it changes, too.
    """

    grpc_upstreams: Addresses = ()
    """Where Envoy finds the gRPC ports of all servers: HOST:PORT, separated by commas.

    A host may be a name that has many addresses; it is looked up again and again. Default: the
    server that starts it, alone.
    """

    grpc_upstreams_ca: Path | None = None
    """A PEM file with authorities: Envoy speaks TLS to servers, and their names must be certified.

    It is read at the start.
    """

    grpc_upstreams_cert: Path | None = None
    """A PEM file with the certificate that Envoy shows to servers, for `ASSISTANTS_TLS_CLIENT_CA`.

    It and its key are read again when they change.
    """

    grpc_upstreams_key: Path | None = None
    """A PEM file with that certificate's key, without a password."""

    edge_secret: ChosenSecret | None = None
    """What Envoy shows to servers on other machines, so that they answer its REST calls.

    With it, a server serves REST on its gRPC port too, to whoever knows it.
    """

    def check_listening(self) -> None:
        """Raises SettingsError where one of these lacks another."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("ASSISTANTS_TLS_CERT, ASSISTANTS_TLS_KEY: one needs the other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsError("ASSISTANTS_TLS_CLIENT_CA: needs ASSISTANTS_TLS_CERT")
        if (self.grpc_upstreams_cert is None) != (self.grpc_upstreams_key is None):
            raise SettingsError(
                "ASSISTANTS_GRPC_UPSTREAMS_CERT, ASSISTANTS_GRPC_UPSTREAMS_KEY: one needs the other"
            )
        if self.grpc_upstreams_cert is not None and self.grpc_upstreams_ca is None:
            raise SettingsError(
                "ASSISTANTS_GRPC_UPSTREAMS_CERT: needs ASSISTANTS_GRPC_UPSTREAMS_CA"
            )
        if self.grpc_upstreams and self.edge_secret is None:
            raise SettingsError("ASSISTANTS_GRPC_UPSTREAMS: needs ASSISTANTS_EDGE_SECRET")
