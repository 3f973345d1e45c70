"""The face of a `RaftCore` over the core of the present generation: what is passed on as it is."""

from raft.config import RaftConfig
from raft.core import RaftCore
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.engine import Engine
from raft.generation import Generation
from raft.journal import Journal
from raft.leader import Leader
from raft.outbox import Outgoing


class Present:
    """What is true of the core is true of the node, in the generation that runs; see `RaftCore`."""

    core: RaftCore
    generation: Generation

    @property
    def config(self) -> RaftConfig:
        return self.core.config

    @property
    def letters(self) -> Correspondence:
        return self.core.letters

    @property
    def journal(self) -> Journal:
        return self.core.journal

    @property
    def engine(self) -> Engine:
        return self.core.engine

    @property
    def leader(self) -> Leader:
        return self.core.leader

    @property
    def failure(self) -> str | None:
        return self.core.failure

    @property
    def is_leader(self) -> bool:
        return self.core.is_leader

    @property
    def leader_id(self) -> str | None:
        return self.core.leader_id

    @property
    def state(self) -> int:
        return self.core.state

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def applied_index(self) -> int:
        return self.core.applied_index

    @property
    def commit_index(self) -> int:
        return self.core.commit_index

    @property
    def hears_leader(self) -> bool:
        return self.core.hears_leader

    @property
    def keeps_news(self) -> bool:
        return self.core.keeps_news

    @property
    def counters(self) -> Counters:
        return self.core.counters

    def ms_since_contact(self, peer: str) -> int | None:
        return self.core.ms_since_contact(peer)

    def transfer(self, to: str | None = None) -> str:
        return self.core.transfer(to)

    @property
    def hands_over(self) -> bool:
        return self.core.hands_over

    def withdraw(self, cause: str) -> None:
        self.core.withdraw(cause)

    def engine_failure(self) -> Exception | None:
        return self.core.engine_failure()

    def acknowledge(self) -> list[Outgoing]:
        return self.core.acknowledge()

    def early(self) -> list[Outgoing]:
        return self.core.early()

    def news(self) -> list[Outgoing]:
        return self.core.news()
