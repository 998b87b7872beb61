"""Typed clients of the shared stack's gRPC port."""

from collections.abc import Iterator

import grpc
import pytest

from tests.support.grpc.stubs import Stubs
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def channel(server: Stack) -> Iterator[grpc.Channel]:
    """A channel to the public gRPC server."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="session")
def stubs(channel: grpc.Channel) -> Stubs:
    """Every service, typed."""
    return Stubs(channel)
