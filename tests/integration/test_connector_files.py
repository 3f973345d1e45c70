"""Files through real workers: in and out, started again in between, and what may not be named."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import bare_client, collect, command, running
from worker.pipeline import Pipeline

PASS = (
    'connector Files = file(sync: "always")\n'
    'stream In = Reading.from(Files, path: "in.jsonl", follow: true)\n'
    'stream Out = In.where(n >= 0).emit(n: n).to(Files, path: "out.jsonl", format: "flat")\n'
)
SUM = (
    "connector Files = file()\n"
    'stream In = Reading.from(Files, path: "in.jsonl", follow: true)\n'
    "stream Sum = In.window(1000).aggregate(n: count(), total: sum(n)).emit(n: n, total: total)"
    '.to(Files, path: "out.jsonl", format: "flat")\n'
)


def reading(*numbers: int) -> bytes:
    return b"".join(b'{"event_type": "Reading", "n": %d}\n' % n for n in numbers)


def has_taken(pipeline: Pipeline, events: int) -> bool:
    return pipeline.events_in == events


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def written(root: Path) -> list[dict[str, Any]]:
    path = root / "out.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def test_a_pipeline_follows_a_file_and_appends_to_another_whatever_is_in_it(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Garbage is counted by its reason, the pipeline goes on, and its neighbour hears nothing of it."""
    append(tmp_path / "in.jsonl", reading(1))
    append(
        tmp_path / "in.jsonl", b"not json\n[1]\n\xff\xfe\n\n" + b"[" * 2000 + b"\n" + b"x" * 2_000_000 + b"\n"
    )
    append(tmp_path / "in.jsonl", reading(2) + b'{"event_type": "Reading", "n": "a text"}\n' + reading(-1, 3))
    neighbour = (
        f'connector Bus = nats(servers: "{nats_server.url}")\n'
        'stream B = A.from(Bus, topic: "a").emit(n: n).to(Bus, topic: "b")'
    )
    async with (
        running(nats_server, tmp_path, files_dir=tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "b")
        near = await command(client, "deploy", {"name": "near", "source": neighbour})
        answer = await command(client, "deploy", {"name": "p", "source": PASS})
        assert answer["status"] == near["status"] == "running", answer
        await until(lambda: len(written(tmp_path)) == 3, what="the outputs")
        append(tmp_path / "in.jsonl", reading(4))
        await until(lambda: len(written(tmp_path)) == 4, what="the output of a line that came later")
        losses = worker.host.get(answer["id"]).losses()
        await client.publish("a", b'{"event_type": "A", "n": 1}')
        await until(lambda: heard.fields, what="the neighbour's output")
        assert not +worker.host.get(near["id"]).losses()
    assert [each["n"] for each in written(tmp_path)] == [1, 2, 3, 4]
    assert losses["bad_json"] + losses["too_deep"] == 3
    assert losses["not_an_object"] == losses["too_large"] == 1


async def test_a_worker_that_is_started_again_goes_on_where_it_was_and_counts_each_line_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    total = 1000
    wanted = {"name": "p", "group": "g", "source": SUM}
    async with bare_client(nats_server) as client:
        for epoch, part in enumerate((range(300), range(300, 601), range(601, total)), 1):
            append(tmp_path / "in.jsonl", reading(*part))
            async with running(nats_server, tmp_path, files_dir=tmp_path) as worker:
                known = {} if epoch == 1 else {"restore_from": "latest"}
                answer = await command(client, "deploy", {**wanted, **known, "epoch": epoch})
                assert answer.get("status") == "running", answer
                pipeline = worker.host.get(answer["id"])
                await until(partial(has_taken, pipeline, len(part)), what="the lines of this part")
                if part.stop < total:
                    await worker.host.save(pipeline)
        assert [(each["n"], each["total"]) for each in written(tmp_path)] == [(total, sum(range(total)))]


async def test_a_pipeline_without_state_goes_on_in_its_file_too(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    wanted = {"name": "p", "group": "g", "source": PASS, "restore_from": "latest"}
    async with bare_client(nats_server) as client:
        for epoch, numbers in enumerate(((1, 2), (3,), (4, 5)), 1):
            append(tmp_path / "in.jsonl", reading(*numbers))
            async with running(nats_server, tmp_path, files_dir=tmp_path) as worker:
                answer = await command(client, "deploy", {**wanted, "epoch": epoch})
                assert answer.get("status") == "running", answer
                pipeline = worker.host.get(answer["id"])
                await until(partial(has_taken, pipeline, len(numbers)), what="the lines of this part")
                await worker.host.save(pipeline)
    assert [each["n"] for each in written(tmp_path)] == [1, 2, 3, 4, 5]


async def test_a_pipeline_that_reads_a_file_is_not_put_back_while_it_runs(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    append(tmp_path / "in.jsonl", reading(1, 2, 3))
    async with (
        running(nats_server, tmp_path, files_dir=tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        answer = await command(client, "deploy", {"name": "p", "source": SUM})
        pipeline = worker.host.get(answer["id"])
        await until(partial(has_taken, pipeline, 3), what="the lines")
        saved = await command(client, "checkpoint", {"pipeline_id": pipeline.id})
        again = {"pipeline_id": pipeline.id, "checkpoint": saved}
        refused = await command(client, "restore", again)
        assert refused["code"] == "conflict" and "deploy it again with this checkpoint" in refused["error"]
        append(tmp_path / "in.jsonl", reading(*range(4, 1001)))
        await until(lambda: written(tmp_path), what="the window of all lines, none of them twice")
    assert [(each["n"], each["total"]) for each in written(tmp_path)] == [(1000, sum(range(1, 1001)))]


async def test_a_file_that_may_not_be_used_refuses_the_deploy_with_cause_and_remedy(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    async with (
        running(nats_server, tmp_path, files_dir=tmp_path / "allowed"),
        running(nats_server, tmp_path, worker_id="without"),
        bare_client(nats_server) as client,
    ):
        for path in ("../in.jsonl", "/etc/passwd", "in.jsonl"):
            source = f'connector Files = file()\nstream A = B.from(Files, path: "{path}").emit(n: n)'
            answer = await command(client, "deploy", {"name": "p", "source": source})
            assert answer["code"] == "engine_error" and "files_dir" in answer["error"], answer
        answer = await command(client, "deploy", {"name": "p", "source": PASS}, "without")
        assert answer["code"] == "engine_error" and "set worker.files_dir" in answer["error"], answer
