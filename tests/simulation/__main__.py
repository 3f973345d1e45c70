"""Play seeds from the command line.

    python -m tests.simulation --seed 42 --weather storm --trace all    one run, as it was
    python -m tests.simulation --seeds 5000 --jobs 2                    many, over all weathers in turn
    python -m tests.simulation --seeds 5000 --minutes 10                as many of them as there is time for

Exit code 1 when a rule broke; the report of each violation tells how to replay it.
"""

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.play import play
from tests.simulation.rules import Violation
from tests.simulation.weather import WEATHERS

MOST_REPORTS = 5
PROGRESS_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="play this seed, and only it")
    parser.add_argument("--weather", choices=sorted(WEATHERS), help="one weather instead of all in turn")
    parser.add_argument("--trace", choices=("all", "tail"), default="tail", help="how much to print of a run")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to play (100)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--minutes", type=float, help="stop after this time")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.seed is not None:
        return _one(arguments.seed, arguments.weather or "storm", everything=arguments.trace == "all")
    return _many(arguments)


def _one(seed: int, weather: str, *, everything: bool) -> int:
    try:
        simulation = play(seed, WEATHERS[weather], keep_trace=everything)
    except Violation as violation:
        print(violation)
        return 1
    for line in simulation.trace.lines(None if everything else 60):
        print(line)
    print(f"seed {seed} of {weather} holds: {simulation.summary()}, trace {simulation.trace.fingerprint()}")
    return 0


def _case(case: tuple[int, str]) -> tuple[int, str, str, Counter[str]]:
    logging.disable(logging.CRITICAL)
    seed, weather = case
    try:
        return seed, weather, "", play(seed, WEATHERS[weather]).totals()
    except Violation as violation:
        return seed, weather, str(violation), Counter()


def _many(arguments: argparse.Namespace) -> int:
    names = [arguments.weather] if arguments.weather else list(WEATHERS)
    cases = [(arguments.first + n, names[n % len(names)]) for n in range(arguments.seeds)]
    began, told = time.monotonic(), time.monotonic()
    played, broken, totals = 0, 0, Counter[str]()
    with multiprocessing.Pool(arguments.jobs) as pool:
        results: Iterator[tuple[int, str, str, Counter[str]]] = pool.imap_unordered(_case, cases, chunksize=4)
        for _, _, report, more in results:
            played, totals = played + 1, totals + more
            if report:
                broken += 1
                if broken <= MOST_REPORTS:
                    print(report, flush=True)
            now = time.monotonic()
            if now - told > PROGRESS_SECONDS:
                told = now
                print(
                    f"{played} of {len(cases)} seeds, {broken} broke a rule, {now - began:.0f} s", flush=True
                )
            if arguments.minutes and now - began > arguments.minutes * 60:
                pool.terminate()
                break
    words = ", ".join(f"{count} {what}" for what, count in totals.items())
    print(f"{played} seeds, {broken} broke a rule, {time.monotonic() - began:.0f} s: {words}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
