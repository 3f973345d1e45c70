"""A pipeline passes from one worker to another while events come: each is handled once, in its order."""

import asyncio
import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from proto_schemas.partition import Owners
from tests.support.nats_server import NatsServer, nats_cluster
from tests.support.poll import until
from tests.unit.worker.support import Collected, bare_client, collect, command, running
from transport.subscription import Message
from worker import checkpoints, handover, held
from worker.app import Worker
from worker.pipeline import Pipeline, State

PASS = "stream Out = In.emit(n: n)"
LINE = "g.p.1"


def program(server: NatsServer, source: str = PASS) -> str:
    name = source.split()[1]
    return (
        f'connector Bus = nats(servers: "{server.url}")\n'
        f'stream Ins = In.from(Bus, topic: "in.>")\n'
        f'{source.replace("= In", "= Ins")}\nstream Down = {name}.emit(n: n).to(Bus, topic: "out")'
    )


async def deploy(client: Client, worker: str, source: str, epoch: int, **more: Any) -> dict[str, Any]:
    message = {"name": "p", "source": source, "group": "g", "epoch": epoch, "queue": LINE, **more}
    answer: dict[str, Any] = await command(client, "deploy", message, worker)
    return answer


async def move(
    client: Client, copy: str, source: str, target: str, text: str, epoch: int, **more: Any
) -> str:
    """The whole of a move, as the coordinator does it; the id of the new copy."""
    new = await deploy(client, target, text, epoch, hold=True, **more)
    assert new["status"] == "held", new
    assert (await command(client, "hold", {"pipeline_id": copy}, source))["ok"]
    assert (await command(client, "hold", {"pipeline_id": new["id"]}, target))["ok"]
    given = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, source)
    again = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, source)
    assert given.get("held") == again.get("held"), "repeated, it answers the same"
    back = {"pipeline_id": new["id"], "checkpoint": given, "resume": True}
    assert (await command(client, "restore", back, target))["ok"]
    assert (await command(client, "restore", back, target))["ok"], "repeated, it has no effect"
    assert (await command(client, "undeploy", {"pipeline_id": copy}, source))["ok"]
    return str(new["id"])


async def publish(
    client: Client,
    numbers: range,
    *,
    gate: asyncio.Event | None = None,
    subject: str = "",
    enough: asyncio.Event | None = None,
) -> int:
    """Numbers from one publisher, all different, over two subjects, or over the one that is given; how many.
    `enough` ends it early."""
    sent = 0
    for number in numbers:
        event = {"event_type": "In", "fields": {"n": number, "k": number % 5}}
        await client.publish(subject or f"in.{number % 2}", json.dumps(event).encode())
        sent += 1
        if number % 20 == 19:
            await client.flush()
            await asyncio.sleep(0.002)
            if enough is not None and enough.is_set():
                break
        if gate is not None and number == numbers.start + 200:
            gate.set()
    await client.flush()
    return sent


def numbers(heard: Collected) -> list[int]:
    return [fields["n"] for fields in heard.fields]


async def test_every_event_is_handled_once_and_in_order_through_six_moves(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = program(nats_server)
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
        bare_client(nats_server) as publisher,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "w-0", text, 1))["id"]
        begun, enough = asyncio.Event(), asyncio.Event()
        sending = asyncio.create_task(publish(publisher, range(10**6), gate=begun, enough=enough))
        await begun.wait()
        source, target = "w-0", "w-1"
        for epoch in range(2, 8):
            copy = await move(client, copy, source, target, text, epoch)
            source, target = target, source
        enough.set()
        count = await sending
        await until(lambda: len(heard.messages) >= count, what="every number")
        await client.flush()
    assert numbers(heard) == list(range(count))


async def test_moves_between_workers_on_different_servers_of_a_cluster_lose_nothing(tmp_path: Path) -> None:
    """Each worker is at a server of its own, and who publishes at a third one."""
    routes = [{"from_pipeline": "p", "to_pipeline": "q", "event_types": ["Out"]}]
    with nats_cluster(3) as (one, two, three):
        async with (
            running(one, tmp_path, worker_id="w-0"),
            running(two, tmp_path, worker_id="w-1"),
            bare_client(three) as client,
            bare_client(three) as publisher,
        ):

            async def answers(worker: str) -> bool:
                with contextlib.suppress(NoRespondersError):
                    return bool(await command(client, "hello", {}, worker))
                return False

            for worker in ("w-0", "w-1"):
                await until(partial(answers, worker), what=f"the third server knows of {worker}")
            heard = await collect(client, "varpulis.cluster.pipeline.g.p.q")
            copy = (await deploy(client, "w-0", PASS, 1, routes=routes))["id"]
            begun, enough = asyncio.Event(), asyncio.Event()
            subject = "varpulis.cluster.pipeline.g._external.p"
            numbered = publish(publisher, range(10**6), gate=begun, subject=subject, enough=enough)
            sending = asyncio.create_task(numbered)
            await begun.wait()
            source, target = "w-0", "w-1"
            for epoch in range(2, 8):
                copy = await move(client, copy, source, target, PASS, epoch, routes=routes)
                source, target = target, source
            enough.set()
            count = await sending
            await until(lambda: len(heard.messages) >= count, what="every number")
            await client.flush()
        assert numbers(heard) == list(range(count))


async def test_what_waits_to_be_received_when_a_copy_goes_live_keeps_its_place(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the command to go live overtakes events that came before it."""
    receive, text = Pipeline.receive, program(nats_server)

    async def receive_late(self: Pipeline, message: Message, share: int | None = None) -> None:
        if self.state is State.HELD and not self.has_run:
            await asyncio.sleep(0.0005)
        await receive(self, message, share)

    monkeypatch.setattr(Pipeline, "receive", receive_late)
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
        bare_client(nats_server) as publisher,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "w-0", text, 1))["id"]
        begun, enough = asyncio.Event(), asyncio.Event()
        sending = asyncio.create_task(publish(publisher, range(10**6), gate=begun, enough=enough))
        await begun.wait()
        for epoch, (source, target) in enumerate((("w-0", "w-1"), ("w-1", "w-0")), 2):
            copy = await move(client, copy, source, target, text, epoch)
        enough.set()
        count = await sending
        await until(lambda: len(heard.messages) >= count, what="every number")
        await client.flush()
    assert numbers(heard) == list(range(count))


async def test_a_copy_takes_over_from_another_on_the_same_worker(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = program(nats_server)
    async with (
        running(nats_server, tmp_path, max_pipelines=1) as worker,
        bare_client(nats_server) as client,
        bare_client(nats_server) as publisher,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "worker-0", text, 1))["id"]
        begun, enough = asyncio.Event(), asyncio.Event()
        sending = asyncio.create_task(publish(publisher, range(10**6), gate=begun, enough=enough))
        await begun.wait()
        for epoch in (2, 3):
            copy = await move(client, copy, "worker-0", "worker-0", text, epoch)
        enough.set()
        count = await sending
        await until(lambda: len(heard.messages) >= count)
        assert [(each.epoch, each.state) for each in worker.host.running()] == [(3, "running")]
    assert numbers(heard) == list(range(count))


async def test_a_move_that_is_given_up_leaves_the_old_copy_as_if_nothing_had_been(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """After the hand-over: the old copy comes back beside the new one, which then gives back what it took."""
    text = program(nats_server)
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
        bare_client(nats_server) as publisher,
    ):
        heard = await collect(client, "out")
        old = (await deploy(client, "w-0", text, 1))["id"]
        begun, enough = asyncio.Event(), asyncio.Event()
        sending = asyncio.create_task(publish(publisher, range(10**6), gate=begun, enough=enough))
        await begun.wait()
        new = (await deploy(client, "w-1", text, 2, hold=True))["id"]
        await command(client, "hold", {"pipeline_id": old}, "w-0")
        await command(client, "hold", {"pipeline_id": new}, "w-1")
        await command(client, "checkpoint", {"pipeline_id": old, "handover": True}, "w-0")
        assert (await command(client, "hold", {"pipeline_id": old, "back": True}, "w-0"))["ok"]
        taken = await command(client, "checkpoint", {"pipeline_id": new, "handover": True}, "w-1")
        back = {"pipeline_id": old, "checkpoint": taken, "only_held": True, "resume": True}
        assert (await command(client, "restore", back, "w-0"))["ok"]
        enough.set()
        count = await sending
        await until(lambda: len(heard.messages) >= count)
    assert numbers(heard) == list(range(count)), "each once, in its order"


async def test_a_copy_that_runs_and_is_told_of_another_line_begins_that_one(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """A move was given up while the source could not be told; a zombie still takes from the old line."""
    async with (
        running(nats_server, tmp_path, worker_id="w-0") as worker,
        bare_client(nats_server) as client,
        bare_client(nats_server) as zombie,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "w-0", program(nats_server), 3, queue="g.p.3"))["id"]
        await zombie.subscribe("in.>", queue="g.p.3")
        await zombie.flush()
        assert [each.queue for each in worker.host.running()] == [3]
        told = {"pipeline_id": copy, "resume": True, "queue": "g.p.15"}
        assert (await command(client, "restore", told, "w-0"))["ok"]
        assert (await command(client, "restore", told, "w-0"))["ok"], "repeated, it has no effect"
        assert [(each.queue, each.state) for each in worker.host.running()] == [(15, "running")]
        await publish(client, range(50))
        await until(lambda: len(heard.messages) >= 50, what="all that the zombie would have shared")
    assert numbers(heard) == list(range(50))


async def test_a_copy_that_holds_goes_on_by_itself_when_it_hears_no_more_of_the_move(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "HOLD_LIMIT", 0.3)
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "w-0", program(nats_server), 1))["id"]
        await command(client, "hold", {"pipeline_id": copy}, "w-0")
        await publish(client, range(10))
        refused = await command(client, "inject", {"pipeline_id": copy, "event_type": "In"}, "w-0")
        assert (refused["code"], refused["retryable"]) == ("unavailable", True)
        assert heard.messages == []
        await until(lambda: numbers(heard) == list(range(10)))


async def test_what_does_not_fit_is_dropped_and_counted(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_HELD", 4)
    async with (
        running(nats_server, tmp_path, worker_id="w-0") as worker,
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "w-0", program(nats_server), 1))["id"]
        await command(client, "hold", {"pipeline_id": copy}, "w-0")
        await publish(client, range(10))
        await until(lambda: worker.host.losses()["held_overflow"] == 6)
        await command(client, "restore", {"pipeline_id": copy, "resume": True}, "w-0")
        await until(lambda: numbers(heard) == [0, 1, 2, 3])


async def test_a_copy_that_is_held_takes_no_event_and_puts_out_none(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        await deploy(client, "w-0", program(nats_server), 1)
        await deploy(client, "w-1", program(nats_server), 2, hold=True)
        await publish(client, range(50))
        await until(lambda: len(heard.messages) >= 50)
        await client.flush()
    assert numbers(heard) == list(range(50))


async def test_another_program_takes_the_events_and_not_the_state(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = program(nats_server)
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        heard = await collect(client, "out")
        copy = (await deploy(client, "worker-0", text, 1))["id"]
        new = (await deploy(client, "worker-0", text + "\n", 2, hold=True))["id"]
        await command(client, "hold", {"pipeline_id": copy})
        await publish(client, range(50))
        await command(client, "hold", {"pipeline_id": new})
        await publish(client, range(50, 100))
        given = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True})
        back = {"pipeline_id": new, "checkpoint": given, "resume": True}
        refused = await command(client, "restore", back)
        assert refused["code"] == "conflict" and not heard.messages
        assert (await command(client, "restore", {**back, "anew": True}))["ok"]
        await until(lambda: len(heard.messages) >= 100, what="every number")
    assert numbers(heard) == list(range(100))


async def test_a_copy_that_is_undeployed_with_drain_handles_what_it_was_sent_and_the_other_has_the_rest(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = program(nats_server)
    async with (
        running(nats_server, tmp_path),
        bare_client(nats_server) as client,
        bare_client(nats_server) as publisher,
    ):
        heard = await collect(client, "out")
        copy = (await deploy(client, "worker-0", text, 1))["id"]
        await deploy(client, "worker-0", text, 2, name="q")
        begun, enough = asyncio.Event(), asyncio.Event()
        sending = asyncio.create_task(publish(publisher, range(10**6), gate=begun, enough=enough))
        await begun.wait()
        assert (await command(client, "undeploy", {"pipeline_id": copy, "drain": True}))["ok"]
        before = len(heard.messages)
        await until(lambda: len(heard.messages) > before + 200, what="the rest")
        enough.set()
        count = await sending
        await until(lambda: len(heard.messages) >= count, what="every number")
        await client.flush()
    assert sorted(numbers(heard)) == list(range(count))


async def test_a_copy_that_was_to_be_handed_to_goes_on_from_the_last_checkpoint_when_its_source_is_dead(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = "stream Sum = In.partition_by(k).window(3).aggregate(n: sum(n)).emit(n: n)"
    shared = f"dir:{tmp_path / 'shared'}"
    event = {"event_type": "In", "fields": {"k": "a", "n": 1}}
    async with (
        running(nats_server, tmp_path, worker_id="w-0", checkpoint_store=shared) as source,
        running(nats_server, tmp_path, worker_id="w-1", checkpoint_store=shared),
        bare_client(nats_server) as client,
    ):
        old = (await deploy(client, "w-0", text, 1, restore_from="latest"))["id"]
        await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        await source.host.save(source.host.get(old))
        await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        new = (await deploy(client, "w-1", text, 2, hold=True))["id"]
        back = {"pipeline_id": new, "resume": True, "restore_from": "latest"}
        answer = await command(client, "restore", back, "w-1")
        assert "went on from a checkpoint" in answer["begun"]
        sums = [await command(client, "inject", {"pipeline_id": new, **event}, "w-1") for _ in range(2)]
        late = await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        await source.host.save(source.host.get(old))
    assert [answer["output_events"] for answer in sums] == [[], [{"event_type": "Sum", "fields": {"n": 3}}]]
    assert late["output_events"] and source.host.checkpoints.counts["fenced"]


async def test_a_copy_that_a_newer_one_replaces_on_its_own_worker_gives_it_all_its_state(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    text = "stream Sum = In.partition_by(k).window(3).aggregate(n: sum(n)).emit(n: n)"
    event = {"event_type": "In", "fields": {"k": "a", "n": 1}}
    async with running(nats_server, tmp_path, worker_id="w-0"), bare_client(nats_server) as client:
        old = (await deploy(client, "w-0", text, 1, restore_from="latest"))["id"]
        for _ in range(2):
            await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        new = (await deploy(client, "w-0", text, 2, restore_from="latest"))["id"]
        answer = await command(client, "inject", {"pipeline_id": new, **event}, "w-0")
    assert answer["output_events"] == [{"event_type": "Sum", "fields": {"n": 3}}]


async def test_state_too_large_for_a_message_divides_through_the_store(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances become three; each key's window goes on where the key belongs now."""
    monkeypatch.setattr(checkpoints, "INLINE_LIMIT", 10)
    text = "stream Sum = In.partition_by(k).window(3).aggregate(n: sum(n), k: first(k)).emit(n: n, k: k)"
    shared, keys = f"dir:{tmp_path / 'shared'}", [f"k{number}" for number in range(12)]
    owners = {count: Owners(count) for count in (2, 3)}

    def of(number: int, count: int) -> dict[str, Any]:
        instance = {"of": "p", "number": number, "count": count, "key": "k"}
        cut = {"shares": 2} if count != 2 else {}
        return {"name": f"p-{number}", "queue": f"g.p-{number}.1", "instance": {**instance, **cut}}

    def event(key: str) -> dict[str, Any]:
        return {"event_type": "In", "fields": {"k": key, "n": 1}}

    async with (
        running(nats_server, tmp_path, worker_id="w-0", checkpoint_store=shared),
        running(nats_server, tmp_path, worker_id="w-1", checkpoint_store=shared),
        bare_client(nats_server) as client,
    ):
        old = [(await deploy(client, "w-0", text, n + 1, life=1, **of(n, 2)))["id"] for n in range(2)]
        for key in keys * 2:
            await command(client, "inject", {"pipeline_id": old[owners[2].of(key)], **event(key)}, "w-0")
        new = [
            (await deploy(client, "w-1", text, n + 3, life=3, hold=True, **of(n, 3)))["id"] for n in range(3)
        ]
        for copy in old:
            await command(client, "hold", {"pipeline_id": copy, "relayed": True}, "w-0")
        for copy in new:
            await command(client, "hold", {"pipeline_id": copy}, "w-1")
        for copy in old:
            given = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, "w-0")
            for receiver in new:
                piece = {"pipeline_id": receiver, "piece": copy, **given}
                assert (await command(client, "restore", piece, "w-1"))["ok"] and "checkpoint_ref" in given
        for copy in new:
            await command(client, "restore", {"pipeline_id": copy, "resume": True}, "w-1")
        for key in keys:
            at = {"pipeline_id": new[owners[3].of(key)], **event(key)}
            answer = await command(client, "inject", at, "w-1")
            assert answer["output_events"] == [{"event_type": "Sum", "fields": {"n": 3, "k": key}}]


async def test_what_is_too_much_for_a_message_comes_back_from_a_division_that_fails(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was to become two. Each new copy had taken some events, which lie in the store; all are handled."""
    monkeypatch.setattr(checkpoints, "INLINE_LIMIT", 10)
    text = "stream Sum = In.partition_by(k).window(8).aggregate(n: count(), sum: sum(n)).emit(n: n, sum: sum)"
    shared = f"dir:{tmp_path / 'shared'}"
    events = [{"event_type": "In", "fields": {"k": "a", "n": 2**number}} for number in range(8)]
    async with (
        running(nats_server, tmp_path, worker_id="w-0", checkpoint_store=shared) as source,
        running(nats_server, tmp_path, worker_id="w-1", checkpoint_store=shared) as target,
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "varpulis.cluster.pipeline.g.p.q")
        routes = [{"from_pipeline": "p", "to_pipeline": "q", "event_types": ["Sum"]}]
        old = (await deploy(client, "w-0", text, 1, life=1, name="p", queue="g.p.1", routes=routes))["id"]
        new = []
        for number in range(2):
            instance = {"of": "p", "number": number, "count": 2, "key": "k", "shares": 1}
            queue = f"g.p{'-1' * number}.1"
            made = await deploy(
                client,
                "w-1",
                text,
                2 + number,
                life=2,
                name=f"p-{number}",
                queue=queue,
                hold=True,
                instance=instance,
            )
            new.append(made["id"])

        async def come(some: list[dict[str, Any]], worker: Worker, copy: str, count: int) -> None:
            for event in some:
                await client.publish("varpulis.cluster.pipeline.g._external.p", json.dumps(event).encode())
            await client.flush()
            held = worker.host.get(copy).held
            await until(lambda: len(held) == count, what=f"{count} are held")

        await command(client, "hold", {"pipeline_id": old, "relayed": True}, "w-0")
        await come(events[:3], source, old, 3)
        await command(client, "checkpoint", {"pipeline_id": old, "handover": True}, "w-0")
        for copy in new:
            await command(client, "hold", {"pipeline_id": copy}, "w-1")
        await come(events[3:6], target, new[0], 3)
        await command(client, "hold", {"pipeline_id": old, "back": True}, "w-0")
        for copy in new:
            given = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, "w-1")
            assert "checkpoint_ref" in given
            piece = {"pipeline_id": old, "piece": copy, "only_held": True, **given}
            for _ in range(2):
                assert (await command(client, "restore", piece, "w-0"))["ok"], "and again it changes nothing"
        await come(events[6:], source, old, 5)
        back = {"v": 1, "source_sha256": "", "held": []}
        await command(
            client,
            "restore",
            {"pipeline_id": old, "only_held": True, "resume": True, "checkpoint": back},
            "w-0",
        )
        await until(lambda: heard.fields, what="the window of all eight")
        assert heard.fields == [{"n": 8, "sum": 255}]


async def test_a_copy_that_never_ran_leaves_the_checkpoints_to_the_one_that_goes_on(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "INLINE_LIMIT", 10)
    text = "stream Sum = In.partition_by(k).window(3).aggregate(n: sum(n)).emit(n: n)"
    shared = tmp_path / "shared"
    async with (
        running(nats_server, tmp_path, worker_id="w-0", checkpoint_store=f"dir:{shared}") as source,
        running(nats_server, tmp_path, worker_id="w-1", checkpoint_store=f"dir:{shared}"),
        bare_client(nats_server) as client,
    ):
        old = (await deploy(client, "w-0", text, 1, life=1))["id"]
        event = {"event_type": "In", "fields": {"k": "a", "n": 1}}
        await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        await source.host.save(source.host.get(old))
        new = (await deploy(client, "w-1", text, 2, life=2, hold=True))["id"]
        given = await command(client, "checkpoint", {"pipeline_id": new, "handover": True}, "w-1")
        back = {"pipeline_id": old, "only_held": True, "resume": True, **given}
        await command(client, "hold", {"pipeline_id": old}, "w-0")
        assert (await command(client, "restore", back, "w-0"))["ok"] and "checkpoint_ref" in given
        assert list(shared.rglob(f"*{new}*"))
        await command(client, "undeploy", {"pipeline_id": new}, "w-1")
        assert not list(shared.rglob(f"*{new}*")), "nothing is left of it"
        await command(client, "inject", {"pipeline_id": old, **event}, "w-0")
        await source.host.save(source.host.get(old))
        assert source.host.checkpoints.counts == {"written": 2}, "and it was not fenced off"
