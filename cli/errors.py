"""How a command fails: one line with cause and remedy on stderr, and an exit code.

0: done. 1: the operation failed (the cluster said no, cannot be reached, is not ready in time).
2: the command line or a setting is wrong. A shell's 130 stands for Ctrl-C.
"""

from typing import Final

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2


class CliError(Exception):
    """The operation failed; the text is shown to the user as it is."""

    exit_code = FAILED
    code: str = "failed"
    """The word for it in a JSON document; the cluster's own where it said no."""


class UsageError(CliError):
    """The command line or a setting is wrong: nothing was done."""

    exit_code = WRONG_USAGE
    code = "wrong_usage"
