"""Traces by OpenTelemetry, where it is installed and configured; else nothing, at the cost of one look.

A process has one tracer, or none: `use` gives it one, `configure` does so if the environment asks for it. A
span belongs to whoever runs inside of it, through `await`s and the tasks begun there. From process to process
its identity travels as the W3C header `traceparent`, in HTTP and in NATS; `tracestate` and baggage do not. A
header that is none is ignored and counted: what it came with is handled as if it had had no header.

Only requests and commands are traced. Events are not: their path knows nothing of this module.

A span says what was done and to what, and on failure the kind of the error; never its text, nor a payload.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

HEADER: Final = "traceparent"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that ask for traces, by OpenTelemetry's own names."""
EXTRA: Final = "pip install 'varpulis-cluster[otel]'"
LAST_WORDS: Final = 1.0
_W3C: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)

Kind = Literal["server", "client", "internal"]
NOTHING: Final = nullcontext(None)
"""What a span is where nothing is traced."""

log = logging.getLogger(__name__)


class _Process:
    """What this process has: a tracer, or none; and how many headers were ignored."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.ignored = 0


_process: Final = _Process()


def use(provider: "TracerProvider | None") -> None:
    """Trace with this provider from now on; None: not at all."""
    _process.tracer = provider.get_tracer("varpulis") if provider is not None else None


def enabled() -> bool:
    """Whether anything is traced."""
    return _process.tracer is not None


def ignored() -> int:
    """Headers that were no `traceparent`, since the process began."""
    return _process.ignored


def configure(service: str, instance: str) -> Callable[[], None]:
    """Send traces by OTLP over HTTP if a variable of `ENDPOINTS` says where to, as the SDK's other variables
    (`OTEL_...`) would have it. Spans wait in the SDK's queue, which drops what does not fit.

    Returns:
        What to call at the end: it sends what waits, within `LAST_WORDS` seconds.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return _done
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("traces are asked for, and cannot be made: %s: %s", error, EXTRA)
        return _done
    resource = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)

    def end() -> None:
        use(None)
        last = threading.Thread(target=provider.shutdown, daemon=True)  # it would wait for a dead collector
        last.start()
        last.join(LAST_WORDS)

    return end


def parent_of(traceparent: str | None) -> "Context | None":
    """The span that a header names; None without one, and for one that is ignored."""
    if traceparent is None or _process.tracer is None:
        return None
    match = _W3C.fullmatch(traceparent)
    if match is None or not _is_valid(*match.group(1, 2, 3, 5)):
        _process.ignored += 1
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace_id, span_id, flags = (int(each, 16) for each in match.group(2, 3, 4))
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & 1))
    return set_span_in_context(NonRecordingSpan(remote))


def span(
    name: str, kind: Kind = "internal", parent: "Context | None" = None, **attributes: str | int
) -> "AbstractContextManager[Span | None]":
    """A span for the time of the block: a child of `parent`, else of the one we are in, else a new trace."""
    if _process.tracer is None:
        return NOTHING
    return _recorded(_process.tracer, name, kind, parent, attributes)


def within(
    name: str, kind: Kind = "internal", **attributes: str | int
) -> "AbstractContextManager[Span | None]":
    """The same, if we are in one; what nobody's request led to begins no trace."""
    return span(name, kind, None, **attributes) if trace_id() else NOTHING


def current() -> "Context | None":
    """The span we are in, for who acts on its behalf later; None: there is none."""
    if not trace_id():
        return None
    from opentelemetry.context import get_current

    return get_current()


@contextmanager
def attached(context: "Context | None") -> Iterator[None]:
    """For the time of the block we are in the span of `context`, which somebody else ends."""
    if context is None:
        yield
        return
    from opentelemetry.context import attach, detach

    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def trace_id() -> str:
    """Of the span we are in, in hexadecimal; empty: there is none."""
    if _process.tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    inside = get_current_span().get_span_context()
    return f"{inside.trace_id:032x}" if inside.is_valid else ""


def headers() -> dict[str, str]:
    """What a request carries so that its receiver's span belongs to ours; empty where there is none."""
    if _process.tracer is None:
        return {}
    from opentelemetry.trace import get_current_span

    ours = get_current_span().get_span_context()
    if not ours.is_valid:
        return {}
    return {HEADER: f"00-{ours.trace_id:032x}-{ours.span_id:016x}-{int(ours.trace_flags):02x}"}


def _is_valid(version: str, trace: str, span: str, rest: str | None) -> bool:
    """The rules of the W3C: version ff is none, version 00 ends with the flags, no id is zero."""
    if version == "ff" or (version == "00" and rest is not None):
        return False
    return int(trace, 16) != 0 and int(span, 16) != 0


@contextmanager
def _recorded(
    tracer: "Tracer",
    name: str,
    kind: Kind,
    parent: "Context | None",
    attributes: Mapping[str, str | int],
) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind, StatusCode

    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=SpanKind[kind.upper()],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            code = getattr(error, "code", None) or getattr(error, "kind", None) or type(error).__name__
            begun.set_attribute("error.type", str(code)[:60])
            begun.set_status(StatusCode.ERROR)
            raise


def _done() -> None:
    """Nothing is to be sent."""
