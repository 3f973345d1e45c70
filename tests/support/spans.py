"""What was traced: `with traced() as spans:` gives this process a tracer whose spans stay in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from transport import tracing


class Spans:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        """In the order in which they ended."""
        return self._exporter.get_finished_spans()

    def of(self, trace_id: str) -> list[ReadableSpan]:
        """Those of one trace."""
        return [span for span in self.all if trace_of(span) == trace_id]

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of one name."""
        return [span for span in self.all if span.name == name]

    def way_to(self, span: ReadableSpan) -> list[str]:
        """The names from the first span of its trace to `span`, as far as they have ended."""
        by_id = {each.context.span_id: each for each in self.all if each.context is not None}
        names = [span.name]
        while span.parent is not None and span.parent.span_id in by_id:
            span = by_id[span.parent.span_id]
            names.insert(0, span.name)
        return names


def trace_of(span: ReadableSpan) -> str:
    """The id of its trace, in hexadecimal."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


@contextmanager
def traced() -> Iterator[Spans]:
    """Trace in this process for the time of the block."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        yield Spans(exporter)
    finally:
        tracing.use(None)
        provider.shutdown()
