"""`python -m tests.jepsen --minutes 30 [--seed N] [--json]`: one long trial.

Prints each fault as it begins, a summary at the end, and exits with 1 when a promise was broken. History and
logs are kept then, or always with `--keep DIR`.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.jepsen import report, trial
from tests.jepsen.workload import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.jepsen", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults begin (default 1)")
    parser.add_argument("--seed", type=int, default=None, help="the same faults again (default: fresh)")
    parser.add_argument("--clients", type=int, default=Settings.clients, help="how many ask at once")
    parser.add_argument(
        "--consistency",
        choices=("linearizable", "stale"),
        default=Settings.consistency,
        help="what reads ask for; stale breaks the promise on purpose, and must be found out",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--keep", type=Path, help="a directory for history and logs")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(2**32)
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="jepsen-"))
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", file=sys.stderr, flush=True)

    progress(f"seed {seed}, {arguments.minutes:g} minutes of faults")
    settings = Settings(clients=arguments.clients, consistency=arguments.consistency)
    found = asyncio.run(
        trial.run(directory, seed=seed, seconds=arguments.minutes * 60, settings=settings, progress=progress)
    )
    print(json.dumps(report.as_json(found)) if arguments.json else report.as_text(found))
    if not found.complaints and arguments.keep is None:
        shutil.rmtree(directory)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, as by Ctrl-C
    sys.exit(main())
