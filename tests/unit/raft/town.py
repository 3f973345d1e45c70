"""Whole nodes in one process: real files, virtual time, a post that may lose, and power that may fail.

For what one node does in a change, step by step; lives of whole clusters are `tests.simulation`'s.

A turn is five milliseconds: every node that lives takes what was posted before, and steps.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raft.change import Result
from raft.config import RaftConfig
from raft.generation import Generation
from raft.outbox import Outgoing
from raft.outcomes import Committed, Outcome
from raft.succession import Succession
from tests.simulation.disk import FlakyDisk, PowerCut
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock

TURN = 0.005


class _Work:
    """What a process's thread has to do."""

    def __init__(self, work: Callable[[], object], turns: int) -> None:
        self._work, self.turns = work, turns
        self.done = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
        self.done = True


class _Thread:
    """The background of one process: each work takes `longest` turns at most, and at least one."""

    def __init__(self, rng: random.Random, longest: int) -> None:
        self._random, self._longest = rng, longest
        self.works: list[_Work] = []

    def start(self, work: Callable[[], object]) -> _Work:
        self.works.append(_Work(work, self._random.randint(max(1, self._longest // 2), self._longest)))
        return self.works[-1]

    def turn(self) -> None:
        for work in self.works:
            work.turns -= 1
            if work.turns <= 0:
                work.run()
        self.works = [work for work in self.works if not work.done]


class Town:
    """Nodes by name; `commands` are those that were acknowledged, in order. `thread`: turns that work in the
    background takes at most; 0: it is done at once.
    """

    def __init__(
        self, directory: Path, clock: Clock, *, seed: int = 1, thread: int = 0, **settings: int
    ) -> None:
        self._directory, self._clock, self._settings = directory, clock, settings
        self._random, self._thread = random.Random(seed), thread
        self.threads: dict[str, _Thread] = {}
        self.loss = 0.0
        self.nodes: dict[str, Succession] = {}
        self.machines: dict[str, Recorder] = {}
        self.disks: dict[str, FlakyDisk] = {}
        self.cut: set[str] = set()
        """Nodes whose frames are lost, both ways."""
        self.configs: dict[str, RaftConfig] = {}
        self.acknowledged: list[bytes] = []
        self._post: deque[tuple[str, Outgoing]] = deque()
        self.asleep: dict[str, int] = {}
        """Turns for which nodes still do nothing: what comes in waits, and nothing leaves."""

    # -- nodes -------------------------------------------------

    def start(self, *names: str, members: tuple[str, ...] = (), join: bool = False) -> None:
        """Start processes; those that ran before keep their settings."""
        for name in names:
            if members or name not in self.configs:
                path = self._directory / name
                path.mkdir(exist_ok=True)
                self.disks.setdefault(name, FlakyDisk(random.Random(name)))
                config = RaftConfig(name, members or names, "cluster", path, join=join)
                self.configs[name] = replace(config, **self._settings)  # type: ignore[arg-type]
            self.disks[name].power_on()
            self._open(name)

    def _open(self, name: str) -> None:
        machine = self.machines[name] = Recorder()
        thread = _Thread(random.Random(name), self._thread) if self._thread else None
        try:
            node = Succession(
                self.configs[name],
                machine,
                clock=self._clock,
                wall_ns=lambda: int(self._clock.now * 1e9),
                disk=self.disks[name],
                background=thread,
            )
        except PowerCut:
            self.lose_power(name)
            return
        node.connection_changed(True, patient=False)
        self.nodes[name] = node
        if thread is not None:
            self.threads[name] = thread

    def stop(self, *names: str) -> None:
        """End processes; their disks are intact."""
        for name in names:
            del self.nodes[name]
            self.threads.pop(name, None)
            self.disks[name].end_process()

    def lose_power(self, name: str) -> None:
        """What is not durable is gone."""
        self.nodes.pop(name, None)
        self.threads.pop(name, None)
        self.disks[name].power_off()

    def close(self) -> None:
        self.stop(*list(self.nodes))

    # -- time --------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TURN)):
            self._turn()

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Let time pass until it holds; fails when it does not in time."""
        for _ in range(round(seconds / TURN)):
            if condition():
                return
            self._turn()
        pytest.fail(f"it never came to that: {self._told()}")

    def _told(self) -> dict[str, object]:
        return {name: (node.generation, node.term, node.failure) for name, node in self.nodes.items()}

    def _turn(self) -> None:
        self._clock.now += TURN
        letters, self._post = self._post, deque()
        for sender, letter in letters:
            if self.asleep.get(sender) or self.asleep.get(_target(letter)):
                self._post.append((sender, letter))
            else:
                self._deliver(sender, letter)
        for name in list(self.nodes):
            if self.asleep.get(name):
                self.asleep[name] -= 1
                continue
            self._work(name)
            if name in self.nodes:
                self.step(name)

    def _work(self, name: str) -> None:
        """What the process's thread does in this turn; the power may fail in it."""
        if name not in self.threads:
            return
        try:
            self.threads[name].turn()
        except PowerCut:
            self.lose_power(name)

    def step(self, name: str) -> None:
        """One step of one node; it may be its last."""
        node = self.nodes[name]
        try:
            self._post.extend((name, letter) for letter in node.acknowledge())
            node.tick()
            self._post.extend((name, letter) for letter in (*node.early(), *node.flush()))
        except PowerCut:
            self.lose_power(name)
        else:
            if self.disks[name].off:  # the engine swallowed it
                self.lose_power(name)

    def _deliver(self, sender: str, letter: Outgoing) -> None:
        reply, target = letter.subject.startswith("inbox."), _target(letter)
        if self.cut & {sender, target} or self._random.random() < self.loss:
            return
        node = self.nodes.get(target)
        try:
            if node is None:
                if not reply and letter.token and sender in self.nodes:
                    self.nodes[sender].nobody_there(int(letter.token.rpartition(".")[2]))
            elif reply:
                node.receive_reply(letter.data)
            else:
                node.receive(letter.data, f"inbox.{sender}.{letter.token}" if letter.token else "")
        except PowerCut:
            self.lose_power(target)

    # -- calls -------------------------------------------------

    @property
    def leader(self) -> Succession | None:
        """Who serves, in the newest generation."""
        serving = [node for node in self.nodes.values() if node.leads_applied]
        return max(serving, key=lambda node: (node.generation.number, node.term), default=None)

    def lead(self) -> Succession:
        """Wait for a leader that serves."""
        self.until(lambda: self.leader)
        assert self.leader is not None
        return self.leader

    def write(self, command: bytes, *, seconds: float = 20.0) -> bool:
        """Have a command acknowledged, however often it must be tried; may fail only with less time."""

        def tried() -> bool:
            node = self.leader
            if node is None:
                return False
            heard: list[Outcome] = []
            node.propose(command, heard.append)
            for _ in range(200):
                self._turn()
                if heard:
                    break
            return bool(heard) and isinstance(heard[0], Committed)

        deadline = self._clock.now + seconds
        while not tried():
            if self._clock.now >= deadline:
                assert seconds < 20.0, f"not acknowledged: {self._told()}"
                return False
            self._turn()
        self.acknowledged.append(command)
        return True

    def change(self, add: str | None = None, remove: str | None = None, timeout: float = 5.0) -> list[Result]:
        """Begin a change at the leader; its end will be the one element of the list."""
        ended: list[Result] = []
        self.lead().change(add, remove, timeout, ended.append)
        return ended

    def changed(self, add: str | None = None, remove: str | None = None) -> Generation:
        """A change that must succeed."""
        ended = self.change(add, remove)
        self.until(lambda: ended)
        assert isinstance(ended[0], Generation), ended[0]
        return ended[0]

    def together(self, *names: str) -> None:
        """All of them come to the same state, which holds everything acknowledged, in order."""
        self.write(b"the last word, number %d" % len(self.acknowledged))
        self.until(lambda: all(self.acknowledged[-1] in self.machines[name].commands for name in names))
        self.until(lambda: len({self.nodes[name].generation for name in names}) == 1)
        for name in names:
            commands = list(dict.fromkeys(self.machines[name].commands))
            assert [command for command in commands if command in self.acknowledged] == self.acknowledged
            assert self.machines[name].commands == self.machines[names[0]].commands
            assert self.nodes[name].generation == self.nodes[names[0]].generation


def _target(letter: Outgoing) -> str:
    tokens = letter.subject.split(".")
    return tokens[1] if tokens[0] == "inbox" else tokens[-2]
