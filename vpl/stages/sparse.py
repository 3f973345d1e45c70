"""`.limit` and `.distinct`: some events pass, by what passed before."""

from vpl.expressions import ExpressionWriter
from vpl.passed import Passed, Seen
from vpl.plan import Distinct, Limit
from vpl.stages.kind import Kind
from vpl.writing import StreamWriter


def _limit(writer: StreamWriter, stage: Limit) -> None:
    tag = writer.tag(stage)
    writer.setup.add(f"count{tag} = keepers[{tag!r}].count")
    writer.add(f"if count{tag}[0] >= {stage.count}:\n    return\ncount{tag}[0] += 1")


def _distinct(writer: StreamWriter, stage: Distinct) -> None:
    tag, expressions = writer.tag(stage), ExpressionWriter()
    writer.setup.add(f"is_new{tag} = keepers[{tag!r}].is_new")
    writer.key("v", [expressions.write(value).text for value in stage.values])
    writer.add(f"if not is_new{tag}(v, ts):\n    return")


LIMIT = Kind(_limit, "limit", lambda stage, fresh, limit: Passed())
DISTINCT = Kind(_distinct, "distinct", lambda stage, fresh, limit: Seen(stage.within_ms, limit))
