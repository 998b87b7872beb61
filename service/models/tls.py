"""Which certificates of model servers are trusted."""

import os
import ssl

from service.errors import SettingsError

BUNDLES = (
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where distributions keep the certificates of the world, besides where OpenSSL looks."""


def context() -> ssl.SSLContext:
    """Returns a context that trusts `SSL_CERT_FILE`, or `SSL_CERT_DIR`, or else the system.

    Raises SettingsError where there are no such certificates.
    """
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or directory:
        try:
            return ssl.create_default_context(
                cafile=file or None, capath=None if file else directory
            )
        except OSError as error:
            name = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
            raise SettingsError(f"{name}: {file or directory}: {error.strerror}") from error
    default = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and any(os.scandir(paths.capath))):
        bundle = next(filter(os.path.isfile, BUNDLES), None)
        if bundle is not None:
            default.load_verify_locations(bundle)
    return default
