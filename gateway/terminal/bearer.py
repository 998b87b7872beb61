"""Gives each call of a gRPC channel an API key."""

from collections.abc import Callable
from typing import Any

import grpc


def with_key(channel: grpc.Channel, key: str) -> grpc.Channel:
    """Returns a channel whose calls have the key; the same one without a key."""
    return grpc.intercept_channel(channel, Bearer(key)) if key else channel


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds `authorization: Bearer …` to the metadata of calls."""

    def __init__(self, key: str) -> None:
        """Gives them this key."""
        self._pair = ("authorization", f"Bearer {key}")

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Makes the call with the key."""
        return continuation(self._with_key(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Makes the call with the key."""
        return continuation(self._with_key(client_call_details), request)

    def _with_key(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), self._pair])
