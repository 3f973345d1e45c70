"""`check`: the mistakes in VPL programs, found without a cluster."""

from pathlib import Path

from cli.errors import FAILED, OK
from cli.group_file import sources
from cli.invocation import Invocation, Rows
from vpl import check_source


def check(call: Invocation) -> int:
    """Every finding of every program in the file; fails when one of them is an error."""
    path = Path(call.arguments["file"])
    registered = [name for name in (call.arguments["connectors"] or "").split(",") if name]
    findings = [
        (name, finding)
        for name, source in sources(path).items()
        for finding in check_source(source, registered)
    ]
    valid = all(finding.severity != "error" for _, finding in findings)
    document = {
        "valid": valid,
        "diagnostics": [
            {
                "pipeline": name,
                "severity": finding.severity,
                "line": finding.line,
                "column": finding.column,
                "message": finding.message,
                "hint": finding.hint,
            }
            for name, finding in findings
        ],
    }
    rows = [
        (name, f"{finding.line}:{finding.column}", finding.severity, finding.message, finding.hint)
        for name, finding in findings
    ]
    title = f"{path}: no mistakes found" if not findings else str(path)
    call.show(document, Rows(("PIPELINE", "LINE", "SEVERITY", "MESSAGE", "HINT"), rows, title))
    return OK if valid else FAILED
