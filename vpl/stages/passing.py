"""Stages that remember nothing: the event passes, becomes another one, or is handed out."""

from vpl.expressions import ExpressionWriter
from vpl.plan import Deliver, Emit, Filter, Project
from vpl.stages.kind import Kind
from vpl.writing import StreamWriter


def _filter(writer: StreamWriter, stage: Filter) -> None:
    writer.guarded(f"if not {ExpressionWriter().boolean(stage.condition)}:\n    return")


def _project(writer: StreamWriter, stage: Project) -> None:
    writer.make("e", stage.fields)


def _emit(writer: StreamWriter, stage: Emit) -> None:
    writer.add(f"events_out += 1\nout((-1, {writer.name!r}, e, ts))")


def _deliver(writer: StreamWriter, stage: Deliver) -> None:
    event = "e"
    if stage.texts:
        expressions = ExpressionWriter()
        shown = ", ".join(f"show({expressions.write(text).text})" for text in stage.texts)
        writer.add("try:")
        writer.add(f"message = {{'message': ' '.join([{shown}])}}", 1)
        writer.add("except MISMATCH:\n    mismatches += 1\n    message = {}")
        event = "message"
    if stage.fields is not None:
        writer.make("fields", stage.fields)
        event = "{**message, **fields}" if stage.texts else "fields"
    writer.add(f"out(({stage.sink}, {writer.name!r}, {event}, ts))")


FILTER = Kind(_filter)
PROJECT = Kind(_project)
EMIT = Kind(_emit)
DELIVER = Kind(_deliver)
