"""A worker as `varpulis worker` runs it, whose outputs say which copy put them out, and when.

Into each event that a pipeline puts out go, before the gate of the lease is asked: the worker, the process,
the instance, its epoch, and the monotonic time of the machine, which all its processes share.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from cli.main import main
from worker import assembly
from worker.pipeline import Output, Pipeline

WORKER: Final = sys.argv[sys.argv.index("--id") + 1] if "--id" in sys.argv else "?"


class Stamped(Pipeline):
    """A copy that signs what it puts out."""

    async def deliver(self, outputs: Sequence[Output]) -> None:
        for _, _, fields, _ in outputs:
            fields["by"] = f"{WORKER}/{os.getpid()}"
            fields["copy"] = self.id
            fields["instance"] = self.name
            fields["epoch"] = self.epoch
            fields["at"] = time.monotonic()
        await super().deliver(outputs)


if __name__ == "__main__":
    vars(assembly)["Pipeline"] = Stamped
    sys.exit(main(["worker", *sys.argv[1:]]))
