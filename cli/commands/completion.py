"""`completion bash`, `zsh`, `fish`: a script on stdout; `completion words`: what those scripts ask for."""

import sys

from cli.errors import OK
from cli.invocation import Invocation


def bash(call: Invocation) -> int:
    """The script for bash."""
    from cli.completion import posix

    del call
    return _print(posix.bash())


def zsh(call: Invocation) -> int:
    """The script for zsh."""
    from cli.completion import posix

    del call
    return _print(posix.zsh())


def fish(call: Invocation) -> int:
    """The script for fish."""
    from cli.completion import fish as made

    del call
    return _print(made.fish())


def words(call: Invocation) -> int:
    """Words of a kind, one a line; none is no failure."""
    from cli.completion.words import known

    return _print("".join(f"{word}\n" for word in known(call.arguments["kind"], call)))


def _print(text: str) -> int:
    sys.stdout.write(text)
    sys.stdout.flush()
    return OK
