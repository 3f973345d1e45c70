"""The entry point: parse, resolve, run, and turn every failure into one line and an exit code.

A user never sees a traceback: what nobody foresaw is written to a file, and the line says where.
"""

import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

from cli.catalog import Command
from cli.errors import FAILED, INTERRUPTED, WRONG_USAGE, CliError
from cli.invocation import Invocation
from cli.parser import parse
from cli.resolve import Settings
from cli.settings import BY_KEY
from transport.errors import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Run `varpulis` with these arguments (default: the process's own); returns the exit code."""
    try:
        command, given = parse(sys.argv[1:] if arguments is None else arguments)
        return _run(command, given)
    except CliError as error:
        return _fail(str(error), error.exit_code)
    except ConfigError as error:
        return _fail(str(error), WRONG_USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter complains at its exit
        return FAILED
    except Exception as error:
        return _fail(
            f"unexpected {type(error).__name__}: {error} (details in {_write_crash()}): report it", FAILED
        )


def _run(command: Command, given: dict[str, object]) -> int:
    flags = {key: given.pop(key) for key in list(given) if key in BY_KEY}
    config = given.pop("config", None)
    output = given.pop("output", "table")
    settings = Settings(flags, config=str(config) if config else None)
    module, _, function = command.run.partition(":")
    run = getattr(importlib.import_module(module), function)
    return int(run(Invocation(settings, given, str(output))))


def _fail(text: str, code: int) -> int:
    print(f"varpulis: {text}", file=sys.stderr, flush=True)
    return code


def _write_crash() -> Path:
    descriptor, path = tempfile.mkstemp(prefix="varpulis-crash-", suffix=".log")
    with os.fdopen(descriptor, "w") as file:
        traceback.print_exc(file=file)
    return Path(path)


if __name__ == "__main__":
    sys.exit(main())
