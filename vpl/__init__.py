"""VPL, the Varpulis Pipeline Language, and the engine that runs it: pure, synchronous, no I/O and no clock.

    program = vpl.compile_source(source)      # raises VplError with every error of the program
    engine = program.start()
    engine.process("Door", {"badge": "b1"}, ts_ms)
    for sink_id, event_type, fields, ts in engine.take(): ...

Source text goes through `layout` (statements), `parser` (LALR, `grammar.lark`), `tree` (`ast`), `check` with
`scope` and `operations` (names resolved, a `plan`), `compile` with `expressions` and `aggregates` (generated
Python over `values` and `functions`), and runs in `engine` over `windows`; `snapshot` takes its state out
and in. `explain` tells people what a program does, `style` writes it the one way.
"""

from vpl.diagnostics import Diagnostic, VplError, VplStateError
from vpl.engine import Engine, Output, Program, check_source, compile_source
from vpl.plan import ConnectorDecl, SinkBinding, SourceBinding

__all__ = [
    "ConnectorDecl",
    "Diagnostic",
    "Engine",
    "Output",
    "Program",
    "SinkBinding",
    "SourceBinding",
    "VplError",
    "VplStateError",
    "check_source",
    "compile_source",
]
