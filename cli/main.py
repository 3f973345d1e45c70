"""The entry point: whatever Ctrl-C hits, from here on it ends in exit code 130 and never in a traceback.

So nothing is imported outside the handler; `cli.dispatch` does the work.
"""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `varpulis` with these arguments (default: the process's own); returns the exit code."""
    try:
        from cli.interrupts import leave_at_once

        with leave_at_once():
            from cli.dispatch import dispatch
        return dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        sys.stderr.write("varpulis: interrupted\n")
        return 130
    finally:
        if arguments is None:  # there is nothing left to interrupt but the interpreter's own end
            import signal

            signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
