"""`python -m tests.linearizability FILE [SECONDS]`: the verdict on a history that was saved.

The exit code is 0 if it is linearizable, 1 if it is not, 2 if the time was too short to tell.
"""

import sys
from pathlib import Path

from tests.linearizability.checker import check
from tests.linearizability.history import load

EXIT_CODES = {True: 0, False: 1, None: 2}


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python -m tests.linearizability FILE [SECONDS]", file=sys.stderr)
        return 64
    seconds = float(arguments[1]) if len(arguments) == 2 else 60.0
    verdict = check(load(Path(arguments[0])), deadline_seconds=seconds)
    print(verdict.explanation)
    return EXIT_CODES[verdict.ok]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
