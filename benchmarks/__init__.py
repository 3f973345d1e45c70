"""Measurements as commands: `python -m benchmarks NAME -o json`.

A benchmark module has `run(...) -> dict`: figures, and beside them whatever they must be read against, taken
in the same run on the same machine. Ratios mean something on a noisy machine; single figures only a little.
"""


class WrongUsage(ValueError):
    """A parameter that a benchmark cannot use; the text says which it can."""
