"""The addresses that a server listens on: free, and loopback where there are no keys."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

from service.errors import SettingsError
from service.settings import Settings


def check_loopback(settings: Settings) -> None:
    """Raises SettingsError for an address that others than this machine may reach."""
    for name, address in _addresses(settings):
        host = _place(address)[0]
        # What has no address here is found to be so when it is listened on.
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            if not all(ip_address(place[0]).is_loopback for *_, place in found):
                raise SettingsError(
                    f"{name}: {address} is not loopback, and without keys whoever reaches it may "
                    "do everything: ASSISTANTS_AUTH=keys asks for keys, `--insecure` for none"
                )


def check_free(settings: Settings) -> None:
    """Raises SettingsError for an address that is taken: one line, where gRPC needs many."""
    with contextlib.ExitStack() as all_at_once:
        for name, address in _addresses(settings):
            place = _place(address)
            try:
                family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
                all_at_once.enter_context(socket.create_server(place, family=family))
            except OSError as error:
                # Its own text goes on about where in Python it happened; a resolver's does not.
                known = error.errno in errno.errorcode
                reason = os.strerror(error.errno or 0) if known else error.strerror
                raise SettingsError(f"{name}: {address}: {reason}") from None


def _addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Gives the name and the value of each setting that is an address."""
    yield "ASSISTANTS_HTTP_ADDRESS", settings.http_address
    yield "ASSISTANTS_GRPC_ADDRESS", settings.grpc_address
    if settings.metrics_address is not None:
        yield "ASSISTANTS_METRICS_ADDRESS", settings.metrics_address


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
