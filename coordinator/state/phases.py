"""The life of a placement, as a table.

    pending --Place--> deploying --ReportRunning--> running
       ^                  |    \\--ReportFailed--> failed --Place--> deploying
       \\----Displace-----/ \\---------------------/ (from running too)

    any --DeleteGroup--> removing --LetGo--> (gone)

A pair that is not in the table is refused. `ReportRunning` also leads from `pending` to `running`: the copy
of that very epoch turned up after we had given it up, and none newer exists, because a newer one would have a
newer epoch. While removing, it only tells which copy there is to undeploy.
"""

from typing import Final

from coordinator.state.commands import (
    Displace,
    Explain,
    LetGo,
    Place,
    PlacementCommand,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.records import Phase

TRANSITIONS: Final[dict[Phase, dict[type[PlacementCommand], Phase | None]]] = {
    Phase.PENDING: {
        Place: Phase.DEPLOYING,
        ReportRunning: Phase.RUNNING,
        Explain: Phase.PENDING,
    },
    Phase.DEPLOYING: {
        ReportRunning: Phase.RUNNING,
        ReportFailed: Phase.FAILED,
        Displace: Phase.PENDING,
        Explain: Phase.DEPLOYING,
    },
    Phase.RUNNING: {
        ReportRunning: Phase.RUNNING,
        ReportFailed: Phase.FAILED,
        Displace: Phase.PENDING,
    },
    Phase.FAILED: {
        Place: Phase.DEPLOYING,
        Explain: Phase.FAILED,
    },
    Phase.REMOVING: {
        ReportRunning: Phase.REMOVING,
        ReportFailed: None,
        Explain: Phase.REMOVING,
        LetGo: None,
    },
}
"""Phase and command to the next phase; None: the placement is gone."""
