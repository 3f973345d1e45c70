"""Every check, in the order in which it is shown; `varpulis doctor NAME` does only that one."""

from typing import Final

from cli.doctor.clocks import clocks
from cli.doctor.configuration import configuration
from cli.doctor.coordinators import coordinators, workers
from cli.doctor.directories import directories
from cli.doctor.findings import Check, Result
from cli.doctor.ids import ids, journals
from cli.doctor.nats import nats
from cli.doctor.ports import ports
from cli.doctor.secrets import secrets
from cli.doctor.software import event_loop, limits, versions

_NOT_KNOWN: Final = (Result.WARNING, "`varpulis raft verify DIR` takes as long as it needs")

CHECKS: Final = (
    Check("configuration", "settings, their contradictions, the files they name", configuration),
    Check("ids", "names: legal, unique, known to the cluster", ids, 20.0),
    Check(
        "journals", "every byte of the coordinators' files, and whose they are", journals, 20.0, _NOT_KNOWN
    ),
    Check("directories", "data directories: writable, with room, fast enough", directories),
    Check("secrets", "files of secrets: there, and for nobody else's eyes", secrets),
    Check("ports", "free, or held by the process that should", ports, 20.0),
    Check("nats", "servers: reachable, one cluster, JetStream, round trip, credentials", nats, 25.0),
    Check("coordinators", "they answer, are ready, agree on leader and term", coordinators, 20.0),
    Check("workers", "they are ready and heard", workers, 20.0),
    Check("clocks", "those of the other machines against ours", clocks, 25.0),
    Check("versions", "of varpulis and what it stands on, here and there", versions, 20.0),
    Check("limits", "open files", limits),
    Check("event-loop", "uvloop", event_loop),
)
