"""Traces by OTLP: spans of calls, transactions, runs, and what models are asked.

Where the environment names no collector (`OTEL_EXPORTER_OTLP_ENDPOINT`), nothing of OpenTelemetry
is loaded, and a span costs the call of a function. Its other variables, `OTEL_…`, are read by the
SDK. No span has what callers, models or drivers say: errors are their types.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import structlog

from service.errors import SettingsError
from storage.database import Database, Work

if TYPE_CHECKING:
    import aiohttp
    from opentelemetry import trace
    from opentelemetry.context import Context

T = TypeVar("T")

TRACEPARENT = "traceparent"
"""The header, or gRPC's metadata, with the span that a request comes from: W3C Trace Context."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

FLUSH_SECONDS = 5.0
"""How long the last spans may take to be sent when the server stops."""

Kind = Literal["server", "client", "internal"]
"""Who is at the other end: a caller, somebody who is asked, or nobody."""

log = structlog.get_logger(__name__)

_tracer: "trace.Tracer | None" = None


class Span:
    """What happens in a `with` block. This one is not recorded."""

    __slots__ = ()

    def __enter__(self) -> Self:
        """Begins the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends it. An error ends the span as failed, and goes on."""

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Adds attributes; None is none."""

    def fail(self, reason: str) -> None:
        """Marks it as failed, for one of few reasons."""


class _Recorded(Span):
    """A span that the collector gets."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: "trace.Span") -> None:
        self._span = span

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from opentelemetry import context

        if kind is not None:
            self.fail(kind.__qualname__)
        context.detach(self._token)
        self._span.end()

    def note(self, attributes: Mapping[str, Any]) -> None:
        self._span.set_attributes(_given(attributes))

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", reason)
        self._span.set_status(StatusCode.ERROR)


_NONE = Span()


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Any] | None = None,
    *,
    carrier: Mapping[str, Any] | None = None,
) -> Span:
    """Returns the span of a `with` block, within the one that is open.

    Where none is, it goes on with the trace that `carrier` names in `traceparent`, if it does.
    """
    if _tracer is None:
        return _NONE
    from opentelemetry.trace import SpanKind

    context = None if carrier is None or _is_traced() else _extracted(carrier)
    kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
    given = _given(attributes or {})
    return _Recorded(_tracer.start_span(name, context, kinds[kind], given))


def traceparent() -> str | None:
    """Returns what leads others to the span that is open; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.propagate import inject

    headers: dict[str, str] = {}
    inject(headers)
    return headers.get(TRACEPARENT)


def http_client() -> "list[aiohttp.TraceConfig]":
    """Returns what makes an HTTP client record its requests, and send `traceparent` with them."""
    if _tracer is None:
        return []
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config

    return [create_trace_config()]


def database(url: str, **options: int) -> Database:
    """Returns a database, made with `options`, whose transactions are spans if there are any."""
    return Database(url, **options) if _tracer is None else _TracedDatabase(url, **options)


class _TracedDatabase(Database):
    """A database whose transactions are spans of the traces that they belong to.

    What belongs to none, such as a look at what there is to do, is not recorded.
    """

    async def write(self, work: Work[T], *given: Any, **named: Any) -> T:
        with self._span(work):
            return await super().write(work, *given, **named)

    async def renew(self, work: Work[T]) -> T:
        with self._span(work):
            return await super().renew(work)

    async def read(self, work: Work[T], *given: Any, **named: Any) -> T:
        with self._span(work):
            return await super().read(work, *given, **named)

    async def get(self, work: Work[T], *given: Any, **named: Any) -> T:
        with self._span(work):
            return await super().get(work, *given, **named)

    def _span(self, work: Work[Any]) -> Span:
        if not _is_traced():
            return _NONE
        return span(work.__qualname__, "client", {"db.system.name": self.url.get_backend_name()})


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Records spans meanwhile and sends them to the collector that the environment names, if any.

    Raises SettingsError.
    """
    global _tracer
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or _first(ENDPOINTS) is None:
        yield
        return
    protocol = _first(PROTOCOLS)
    if protocol not in (None, "grpc"):
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: only grpc is supported, not {protocol}")
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    version = metadata.version("assistants")
    own = Resource({"service.name": "assistants", "service.version": version})
    _log_failures()
    try:
        exporter = OTLPSpanExporter()
        provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
            # An error's words and traceback would be one, and may name a proxy with its password.
            span_limits=SpanLimits(max_events=0),
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except ValueError as error:
        raise SettingsError(f"OTEL_…: {error}") from None
    # Without baggage: what callers put there is not for model servers.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    trace.set_tracer_provider(provider)
    _tracer = provider.get_tracer("assistants", version)
    try:
        yield
    finally:
        _tracer = None
        # A collector that is away is asked again and again.
        giving_up = threading.Timer(FLUSH_SECONDS, exporter.shutdown)
        giving_up.start()
        provider.shutdown()
        giving_up.cancel()


def _first(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(os.environ.get, names)), None)


def _is_traced() -> bool:
    """Returns whether a span is open, recorded or not."""
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().is_valid


def _extracted(carrier: Mapping[str, Any]) -> "Context":
    from opentelemetry.propagate import extract

    return extract(carrier)


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _log_failures() -> None:
    """Has what the SDK gives up in the server's log."""
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    logger.addHandler(_Failures(logging.ERROR))


class _Failures(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.warning("tracing failed", reason=record.getMessage())
