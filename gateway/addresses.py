"""The addresses that a server listens on: free, and loopback where there are no keys."""

import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address

from service.errors import SettingsError
from service.settings import Settings

Addresses = Mapping[str, str]
"""Where a process listens: HOST:PORT by the names of settings."""


def check(addresses: Addresses, settings: Settings, *, insecure: bool) -> None:
    """Raises SettingsError for an address that is taken, or that asks for keys and has none.

    Without keys, addresses must be loopback, unless it is to be `insecure`: whoever reaches them
    may do everything.
    """
    if settings.auth != "keys" and not insecure:
        _check_loopback(addresses)
    _check_free(addresses)


def listening(settings: Settings, *, http: bool, grpc: bool) -> Addresses:
    """Returns the addresses of a process that serves HTTP, gRPC or both, with that of metrics."""
    wanted = {
        "ASSISTANTS_HTTP_ADDRESS": settings.http_address if http else None,
        "ASSISTANTS_GRPC_ADDRESS": settings.grpc_address if grpc else None,
        "ASSISTANTS_METRICS_ADDRESS": settings.metrics_address,
    }
    return {name: address for name, address in wanted.items() if address is not None}


def _check_loopback(addresses: Addresses) -> None:
    """Raises SettingsError for an address that others than this machine may reach."""
    for name, address in addresses.items():
        host = _place(address)[0]
        # What has no address here is found to be so when it is listened on.
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            if not all(ip_address(place[0]).is_loopback for *_, place in found):
                raise SettingsError(
                    f"{name}: {address} is not loopback, and without keys whoever reaches it may "
                    "do everything: ASSISTANTS_AUTH=keys asks for keys, `--insecure` for none"
                )


def _check_free(addresses: Addresses) -> None:
    """Raises SettingsError for an address that is taken: one line, where gRPC needs many."""
    with contextlib.ExitStack() as all_at_once:
        for name, address in addresses.items():
            place = _place(address)
            try:
                family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
                all_at_once.enter_context(socket.create_server(place, family=family))
            except OSError as error:
                # Its own text goes on about where in Python it happened; a resolver's does not.
                known = error.errno in errno.errorcode
                reason = os.strerror(error.errno or 0) if known else error.strerror
                raise SettingsError(f"{name}: {address}: {reason}") from None


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
