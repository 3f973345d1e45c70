"""`python -m tests.fuzz --minutes 10`: requests made from the OpenAPI document, for as long as one likes."""

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from coordinator.state.records import KeyRole
from tests.fuzz.driver import Found, fuzz
from tests.fuzz.stage import Stage, a_cluster
from tests.support.nats_server import NatsServer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--examples", type=int, default=40, help="of each operation, in one round")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--node", choices=("leader", "follower"), default="follower", help="who is asked")
    parser.add_argument("--phases", nargs="*", default=["coverage", "fuzzing", "stateful"])
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, NatsServer() as nats:
        found, trouble = asyncio.run(_run(args, nats.url, Path(directory)))
    print(found)
    print(*(f"503: {text}" for text in found.wanting.values()), sep="\n")
    print(*trouble, sep="\n")
    return 1 if found.faults or trouble else 0


async def _run(args: argparse.Namespace, nats_url: str, directory: Path) -> tuple[Found, list[str]]:
    async with a_cluster(nats_url, directory) as stage:
        node = await (stage.group.leader() if args.node == "leader" else stage.follower())
        found = await asyncio.to_thread(
            fuzz,
            stage.group.url(node),
            key=stage.keys[KeyRole.ADMIN],
            care=stage.care,
            seed=args.seed,
            examples=args.examples,
            seconds=int(args.minutes * 60),
            phases=args.phases,
        )
        return found, await _trouble(stage)


async def _trouble(stage: Stage) -> list[str]:
    try:
        await stage.is_well()
    except AssertionError as error:
        return [*stage.defects(), str(error)]
    return stage.defects()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, as by Ctrl-C
    sys.exit(main())
