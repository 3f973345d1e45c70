"""`python -m tests.chaos --minutes 5 [--seed N] [--json]`: one long trial.

Prints each fault and operation as it begins, a summary at the end, and exits with 1 when a promise was
broken. The logs are kept then, or always with `--keep DIR`.
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

from tests.chaos import report, trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long rounds begin (default 1)")
    parser.add_argument("--seed", type=int, default=None, help="the same plan again (default: fresh)")
    parser.add_argument("--round", type=float, default=25.0, help="seconds of faults before each calm")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--keep", type=Path, help="a directory for the logs")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(2**32)
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", file=sys.stderr, flush=True)

    progress(f"seed {seed}, {arguments.minutes:g} minutes")
    found = asyncio.run(
        trial.run(
            directory,
            seed=seed,
            seconds=arguments.minutes * 60,
            round_seconds=arguments.round,
            progress=progress,
        )
    )
    print(json.dumps(report.as_json(found)) if arguments.json else report.as_text(found))
    if not found.complaints and arguments.keep is None:
        shutil.rmtree(directory)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, as by Ctrl-C
    sys.exit(main())
