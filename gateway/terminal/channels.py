"""The gRPC channel of a command, with TLS where its server has it."""

import ssl

import grpc

from service.errors import SettingsError
from service.models import tls
from service.settings import Settings


def opened(address: str) -> tuple[str, grpc.Channel]:
    """Returns where a server is, as HOST:PORT, and a channel to it, which the caller closes.

    `address` is HOST:PORT, or https://HOST:PORT for TLS. Without, it is the server that has this
    process's settings, whose certificate is trusted as it is. Otherwise the same authorities are
    trusted as of model servers: those of SSL_CERT_FILE, or the system's. Raises SettingsError.
    """
    if address:
        scheme, _, place = address.rpartition("://")
        if scheme not in ("", "http", "https"):
            raise SettingsError(f"--address: {address} is neither HOST:PORT nor https://HOST:PORT")
        target, secure, own = place.rstrip("/"), scheme == "https", b""
    else:
        settings = Settings.load()
        # Through Envoy, no certificate of the caller's is asked for.
        target = settings.http_address if settings.tls_client_ca else settings.grpc_address
        secure = settings.tls_cert is not None
        try:
            own = settings.tls_cert.read_bytes() if settings.tls_cert else b""
        except OSError as error:
            raise SettingsError(f"ASSISTANTS_TLS_CERT: {error.strerror}") from None
    if not secure:
        return target, grpc.insecure_channel(target)
    trusted = map(ssl.DER_cert_to_PEM_cert, tls.context().get_ca_certs(binary_form=True))
    # Without any, gRPC trusts those that it brings.
    roots = "".join(trusted).encode() + own or None
    return target, grpc.secure_channel(target, grpc.ssl_channel_credentials(roots))
