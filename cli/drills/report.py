"""The report of drills as one HTML page: verdicts, figures, and how events and writes went around the fault.

Nothing is fetched from anywhere, and there is no script: plots are SVG, colours follow the reader's system.
"""

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cli.drills.catalog import DRILLS, Played

WIDTH: Final = 640
HEIGHT: Final = 120
_LEFT: Final = 44
_BIN_S: Final = 0.1
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #8884; --good: #1a7f37;
  --bad: #cf222e; --mark: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #111; --good: #3fb950;
  --bad: #ff7b72; --mark: #58a6ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 720px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; }
td, th { padding: .15rem .9rem .15rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.met { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui; fill: var(--ink); }
.axis { stroke: var(--line); } .fault { stroke: var(--bad); stroke-dasharray: 4 3; }
.events { fill: none; stroke: var(--mark); stroke-width: 1.5; } .write { fill: var(--mark); opacity: .6; }
"""


def page(results: Mapping[str, Mapping[str, Any]], first: Mapping[str, Played]) -> str:
    """The page. `results`: the summary of each drill; `first`: its first round, which is drawn."""
    sections = "".join(_section(name, result, first.get(name)) for name, result in results.items())
    missed = sum(result["met"] is False for result in results.values())
    verdict = "all objectives met" if not missed else f"{missed} of {len(results)} drills missed an objective"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Failover drills</title>'
        f"<style>{_STYLE}</style></head><body><h1>Failover drills</h1>"
        f'<p class="{"missed" if missed else "met"}">{verdict}</p>{sections}</body></html>\n'
    )


def _section(name: str, result: Mapping[str, Any], played: Played | None) -> str:
    objectives = {one["figure"]: one for one in result["objectives"]}
    rows = "".join(
        _row(figure, values, objectives.get(figure)) for figure, values in result["figures"].items()
    )
    head = "<tr><th>figure</th><th>median</th><th>max</th><th>at most</th><th></th></tr>"
    skipped = result.get("skipped")
    body = (
        f"<p>skipped: {html.escape(skipped)}</p>"
        if skipped
        else f"<table>{head}{rows}</table>{_plots(played) if played else ''}"
    )
    summary = html.escape(DRILLS[name].summary if name in DRILLS else "")
    return f'<h2 id="{html.escape(name)}">{html.escape(name)}</h2><p>{summary}</p>{body}'


def _row(figure: str, values: Mapping[str, float] | None, objective: Mapping[str, Any] | None) -> str:
    seen = [f"{values[kind]:.3g}" for kind in ("median", "max")] if values else ["never", "never"]
    cells = "".join(f'<td class="n">{text}</td>' for text in seen)
    if objective is None:
        return f"<tr><td>{html.escape(figure)}</td>{cells}<td></td><td></td></tr>"
    word = "met" if objective["met"] else "missed"
    most = f'<td class="n">{objective["most"]:g}</td><td class="{word}">{word}</td>'
    return f"<tr><td>{html.escape(figure)}</td>{cells}{most}</tr>"


def _plots(played: Played) -> str:
    begin = min(played.seen.sent.values(), default=played.fault)
    end = max((when for _, when in played.seen.received), default=begin + 1)
    span = max(end - begin, _BIN_S)
    came = Counter(int((when - begin) / _BIN_S) for _, when in played.seen.received)
    rates = [came[number] / _BIN_S for number in range(int(span / _BIN_S) + 1)]
    line = _line([(number * _BIN_S, rate) for number, rate in enumerate(rates)], span, max(rates, default=1))
    writes = [(first - begin, last - first) for first, last in played.seen.acknowledged]
    longest = max((seconds for _, seconds in writes), default=1)
    dots = "".join(
        f'<circle class="write" r="2" cx="{_x(at, span):.1f}" cy="{_y(took, longest):.1f}"/>'
        for at, took in writes
        if 0 <= at <= span
    )
    mark = _x(played.fault - begin, span)
    return _svg("events out per second", max(rates, default=0), span, mark, line) + _svg(
        "seconds of each acknowledged write", longest, span, mark, dots
    )


def _svg(title: str, top: float, span: float, mark: float, inside: str) -> str:
    floor = HEIGHT - 18
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f'<text x="{_LEFT}" y="11">{title}</text><text x="0" y="24">{top:.3g}</text>'
        f'<text x="0" y="{floor}">0</text><text x="{WIDTH - 40}" y="{HEIGHT - 4}">{span:.1f} s</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH}" y1="{floor}" y2="{floor}"/>'
        f'<line class="fault" x1="{mark:.1f}" x2="{mark:.1f}" y1="16" y2="{floor}"/>{inside}</svg>'
    )


def _line(points: Iterable[tuple[float, float]], span: float, top: float) -> str:
    path = " ".join(f"{_x(at, span):.1f},{_y(value, top):.1f}" for at, value in points)
    return f'<polyline class="events" points="{path}"/>'


def _x(at: float, span: float) -> float:
    return _LEFT + (WIDTH - _LEFT) * at / span


def _y(value: float, top: float) -> float:
    return (HEIGHT - 18) - (HEIGHT - 40) * value / (top or 1)
