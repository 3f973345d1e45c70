"""The benchmark of the engine runs, and its programs do the work they are measured by."""

import vpl
from benchmarks import engine, workloads


def test_every_program_is_measured() -> None:
    result = engine.run(events=300, repeats=1)
    assert set(result["programs"]) == {*engine.PROGRAMS, *engine.SEQUENCES, "bytes_to_bytes"}
    assert all(figures["events_per_s"] > 0 for figures in result["programs"].values())


def test_the_public_workloads_put_out_what_is_published() -> None:
    assert workloads.run(rounds=1)["sequence"]["outputs"] == 50_000


def test_every_program_gives_outputs_and_no_mismatch() -> None:
    events = engine._events(5_000)
    for source, _ in engine.PROGRAMS.values():
        running = vpl.compile_source(source).start()
        for event_type, fields, ts in events:
            running.process(event_type, fields, ts)
        assert running.take()
        assert running.counters["mismatches"] == running.counters["unknown_type"] == 0
