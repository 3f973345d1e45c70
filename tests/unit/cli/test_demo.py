"""The demo's trades and what must come out of them, reckoned twice: by formula and by the real engine."""

from collections.abc import Iterator
from typing import Any

import pytest

from cli.demo.group import spec
from cli.demo.trades import EVENT_TYPE, Figures, figures, trade
from cli.up.screen import Ticker
from proto_schemas.codec import decode, encode, encode_fields
from proto_schemas.rest.groups import GroupSpec
from vpl import Program, compile_source

URL = "nats://127.0.0.1:4999"


def programs() -> dict[str, Program]:
    return {pipeline["name"]: compile_source(pipeline["source"]) for pipeline in spec(URL)["pipelines"]}


def run(trades: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the two pipelines of the demo put out, stream by stream."""
    compiled = programs()
    first, second = compiled["filter"].start(), compiled["stats"].start()
    for number in range(trades):
        first.process(EVENT_TYPE, trade(number), 1_000 + number)
        for sink, stream, fields, ts in first.take():
            yield stream, fields
            if sink < 0:
                second.process(stream, fields, ts)
                yield from ((name, out) for sink, name, out, _ in second.take() if sink >= 0)


@pytest.mark.parametrize("trades", [0, 79, 400, 4_000])
def test_the_engine_puts_out_exactly_what_the_figures_say(trades: int) -> None:
    streams = [stream for stream, _ in run(trades)]
    assert figures(trades) == Figures(
        large=streams.count("LargeTrade"),
        blocks=streams.count("BlockTrade"),
        statistics=streams.count("SymbolStats"),
    )


def test_the_figures_are_the_simple_fractions_that_the_docs_promise() -> None:
    assert figures(4_000) == Figures(large=2_000, blocks=20, statistics=200)


def test_a_statistic_sums_up_ten_large_trades_exactly() -> None:
    first = next(fields for stream, fields in run(400) if stream == "SymbolStats")
    of_symbol = [
        trade(n) for n in range(400) if trade(n)["symbol"] == first["symbol"] and trade(n)["volume"] >= 100
    ]
    assert first == {
        "symbol": "ALFA",
        "trades": 10,
        "turnover": sum(one["price"] * one["volume"] for one in of_symbol[:10]),
        "low": min(one["price"] for one in of_symbol[:10]),
        "high": max(one["price"] for one in of_symbol[:10]),
        "last_n": of_symbol[9]["n"],
    }


def test_the_group_names_the_server_that_is_really_there() -> None:
    for pipeline in spec(URL)["pipelines"]:
        assert f'"{URL}"' in pipeline["source"]
        assert "4222" not in pipeline["source"]


def test_the_group_is_one_the_api_takes() -> None:
    group = decode(encode(spec(URL)), GroupSpec)
    assert [pipeline.worker_affinity for pipeline in group.pipelines] == ["worker-0", "worker-1"]


def test_a_flood_of_events_becomes_a_few_lines_that_say_how_many_they_stand_for() -> None:
    lines: list[str] = []
    now = 0.0
    ticker = Ticker(lines.append, clock=lambda: now)
    event = encode_fields({"event_type": "SymbolStats", "fields": {"symbol": "ALFA", "trades": 10}})
    for _ in range(50):
        ticker.event("demo.stats", event)
    assert lines == ["demo.stats  SymbolStats symbol=ALFA trades=10"] * 3
    now = 1.0
    ticker.event("demo.stats", event)
    assert lines[3].endswith("(+47 more)")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"event_type":"A","fields":7}', b"\xff" * 200])
def test_an_event_that_is_none_is_shown_as_it_is(data: bytes) -> None:
    lines: list[str] = []
    Ticker(lines.append).event("demo.stats", data)
    assert len(lines) == 1
    assert len(lines[0]) < 400
