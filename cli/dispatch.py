"""Parse, resolve, run, and turn every failure into one line and an exit code.

A user never sees a traceback: what nobody foresaw is written to a file, and the line says where. Whoever
asked for JSON or YAML gets one document on stdout in any case: a command that failed before it showed
anything leaves `{"error": ..., "code": ...}` there, beside the line on stderr.
"""

import importlib
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from cli.catalog import Command
from cli.documents import FORMS, Stream, written
from cli.errors import FAILED, WRONG_USAGE, CliError, UsageError
from cli.interrupts import leave_at_once
from cli.invocation import Invocation, printable
from cli.parser import parse
from cli.resolve import Settings
from cli.settings import BY_KEY
from transport.errors import ConfigError

Run = Callable[[Invocation], int]


def dispatch(arguments: list[str]) -> int:
    """Run the command that `arguments` call; returns the exit code. Only KeyboardInterrupt and, after
    `--help`, SystemExit leave it.
    """
    call: Invocation | None = None
    try:
        with leave_at_once():
            run, call = _prepared(*parse(arguments))
        return int(run(call))
    except CliError as error:
        text, word, code = str(error), error.code, error.exit_code
    except ConfigError as error:
        text, word, code = str(error), UsageError.code, WRONG_USAGE
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter complains at its exit
        return FAILED
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (details in {_write_crash()}): report it"
        word, code = "internal", FAILED
    print(f"varpulis: {printable(text)}", file=sys.stderr, flush=True)
    form = _form_asked_for(arguments)
    if form and not (call and call.shown):
        document = {"error": text, "code": word}
        if "--watch" in arguments or "--follow" in arguments or "-f" in arguments:
            Stream(form).write(document)
        else:
            print(written(document, form), end="", flush=True)
    return code


def _prepared(command: Command, given: dict[str, object]) -> tuple[Run, Invocation]:
    flags = {key: given.pop(key) for key in list(given) if key in BY_KEY}
    config = given.pop("config", None)
    output = given.pop("output", "table")
    settings = Settings(flags, config=str(config) if config else None, lenient=command.lenient)
    module, _, function = command.run.partition(":")
    run: Run = getattr(importlib.import_module(module), function)
    if command.watch:
        from cli.watch import watching

        run = watching(command.name, run)
    return run, Invocation(settings, given, str(output))


def _form_asked_for(arguments: list[str]) -> str | None:
    """Read from the words themselves, for it must be known of a command line that cannot be parsed, too."""
    asked = None
    for before, word in itertools.pairwise(["", *arguments]):
        for form in FORMS:
            separate = before in ("-o", "--output") and word == form
            if separate or word in (f"-o{form}", f"-o={form}", f"--output={form}"):
                asked = form
    return asked


def _write_crash() -> Path:
    descriptor, path = tempfile.mkstemp(prefix="varpulis-crash-", suffix=".log")
    with os.fdopen(descriptor, "w") as file:
        traceback.print_exc(file=file)
    return Path(path)
