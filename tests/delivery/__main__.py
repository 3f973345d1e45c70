"""`python -m tests.delivery [--events 200000] [--seconds 120] [--seed N]`: one long trial.

Prints each fault as it begins and a summary, and exits with 1 when what came out is not what comes out
without faults. The logs are kept then, or always with `--keep DIR`.
"""

import argparse
import asyncio
import dataclasses
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.delivery import trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.delivery", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="how many (default 200000)")
    parser.add_argument("--seconds", type=float, default=120.0, help="over how long (default 120)")
    parser.add_argument("--seed", type=int, default=None, help="the same faults again (default: fresh)")
    parser.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    parser.add_argument("--replicas", type=int, default=1, help="instances of the last pipeline, by key")
    parser.add_argument("--keep", type=Path, help="a directory for the logs")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(2**32)
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="delivery-"))
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", file=sys.stderr, flush=True)

    found = asyncio.run(
        trial.run(
            directory,
            seed=seed,
            events=arguments.events,
            seconds=arguments.seconds,
            delivery=arguments.delivery,
            replicas=arguments.replicas,
            progress=progress,
        )
    )
    print(json.dumps(dataclasses.asdict(found)))
    if not found.complaints and arguments.keep is None:
        shutil.rmtree(directory)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, as by Ctrl-C
    sys.exit(main())
