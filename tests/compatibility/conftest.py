"""Both transports of the shared stack: OpenAI's client on a wire that checks, and typed gRPC."""

from tests.grpc.conftest import channel, stubs
from tests.rest.conftest import async_client, client, wire

__all__ = ["async_client", "channel", "client", "stubs", "wire"]
