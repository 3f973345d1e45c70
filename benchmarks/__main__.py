"""`python -m benchmarks NAME [-o json|table] [key=value ...]`: run one benchmark and print what it found.

Exit codes: 0 measured (and every target met), 1 a target was missed, 2 wrong usage.
"""

import argparse
import importlib
import inspect
import json
import signal
import sys
from typing import Any, Final

from benchmarks import WrongUsage
from benchmarks.conditions import conditions

NAMES: Final = {
    "cells": "one cluster of many workers, and many clusters, simulated from measured costs",
    "control": "registrations, heartbeats, deploys, deaths and reads with thousands of simulated workers",
    "checkpoint": "the longest that events wait while 100 MB of state are checkpointed",
    "delivery": "events through one worker: at most once, at least once, exactly once",
    "dispatch": "a worker command through the dispatcher beside a bare nats-py request",
    "engine": "the VPL engine alone",
    "isolation": "what a pipeline notices of a neighbour that misbehaves",
    "failover": "leader kill -9 to the next acknowledged write",
    "placement": "choices of workers, commands and plans of a large cluster",
    "raft": "commits, failover, idle cost, snapshots and transfers of Raft, beside etcd and JetStream",
    "restore": "a copy of 50 MB becomes the state: what each step costs the event loop",
    "workloads": "three public workloads, file parse and resident memory included",
    "routing": "events through NATS, in and out of one worker, beside a bare loop",
    "security": "what API keys and signatures cost, as ratios",
    "streams": "memory and processor that a client of /stream costs",
    "transport": "NatsTransport beside bare nats-py",
    "worker_failover": "worker kill -9 to its pipelines processing elsewhere",
}


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print; see the module's docstring for exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog="; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    )
    parser.add_argument("name", choices=sorted(NAMES))
    parser.add_argument("-o", "--output", choices=("json", "table"), default="table")
    parser.add_argument("parameters", nargs="*", metavar="key=value", help="parameters of run()")
    arguments = parser.parse_intermixed_args(argv)
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    before = conditions()
    try:
        parameters = _parameters(module.run, arguments.parameters)
        figures = module.run(**parameters)
    except WrongUsage as error:
        parser.error(str(error))
    result = {
        "benchmark": arguments.name,
        "parameters": parameters,
        "result": figures,
        "conditions": before,
    }
    print(json.dumps(result, indent=2) if arguments.output == "json" else _table(result))
    return 0 if all(_targets_met(result["result"])) else 1


def _parameters(run: Any, pairs: list[str]) -> dict[str, int | float | str]:
    known = inspect.signature(run).parameters
    parameters: dict[str, int | float | str] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or key not in known:
            raise WrongUsage(f"{pair!r} is not a parameter: use key=value with {', '.join(known) or 'none'}")
        try:
            parameters[key] = json.loads(value)
        except json.JSONDecodeError:
            parameters[key] = value
    return parameters


def _targets_met(value: Any) -> list[bool]:
    """Every `met` in the result, however deep: a benchmark states its own targets."""
    if isinstance(value, dict):
        own = [value["met"]] if isinstance(value.get("met"), bool) else []
        return own + [met for inner in value.values() for met in _targets_met(inner)]
    if isinstance(value, list):
        return [met for inner in value for met in _targets_met(inner)]
    return []


def _table(value: Any, indent: int = 0) -> str:
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += [f"{'  ' * indent}{key}:", _table(inner, indent + 1)]
        else:
            lines.append(f"{'  ' * indent}{key}: {inner}")
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, as by Ctrl-C
    sys.exit(main())
