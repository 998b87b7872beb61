"""Clients of servers that come and go."""

import contextlib
from collections.abc import Iterator

import grpc

from tests.support.grpc.stubs import Stubs


@contextlib.contextmanager
def connect(address: str) -> Iterator[Stubs]:
    """Gives typed clients of the server at HOST:PORT, on a connection of their own."""
    # Else channels of one process share connections, and how long to wait for the next try.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        yield Stubs(channel)
