"""A small drawing of figures as SVG: scales, axes, marks, a legend. No library, no randomness, no clock.

The same figures give the same bytes, so a rerun shows in a diff as what changed. Colours are classes of one
style sheet that has a light and a dark half (`prefers-color-scheme`), so a chart is readable wherever a page
shows it; the palette is told apart by the colour-blind (Okabe and Ito), and every series also has its own
place beside the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

PALETTE: Final = (
    ("#0072b2", "#56b4e9"),
    ("#7fb2d6", "#2f7fb5"),
    ("#d55e00", "#ff8c42"),
    ("#009e73", "#2fd6a3"),
    ("#9a9a9a", "#8b949e"),
)
"""Of the series, (on light, on dark)."""
INK: Final = ("#1f2328", "#e6edf3")
GRID: Final = ("#d8dee4", "#30363d")
GROUND: Final = ("#ffffff", "#0d1117")
TEXT_PX: Final = 12


@dataclass(frozen=True)
class Scale:
    """Figures from `low` to `high` onto the pixels from `start` to `end`, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        share = (self._at(value) - self._at(self.low)) / (self._at(self.high) - self._at(self.low))
        return self.start + share * (self.end - self.start)

    def _at(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.logarithmic else value

    def ticks(self) -> list[float]:
        """Where an axis says a number: 1, 2 and 5 of each power of ten, or about five even steps."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            all_ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [tick for tick in all_ticks if self.low <= tick <= self.high]
        step = _round_step((self.high - self.low) / 5)
        return [self.low + step * number for number in range(int((self.high - self.low) / step + 1e-9) + 1)]


def even(values: Sequence[float], start: float, end: float) -> Scale:
    """From 0 to a round number above all values, even steps."""
    step = _round_step(max(values) / 5)
    return Scale(0.0, math.ceil(max(values) / step) * step, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Around all values, which are above 0."""
    return Scale(min(values) / 1.7, max(values) * 1.3, start, end, logarithmic=True)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def number(value: float) -> str:
    """As an axis says it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


@dataclass
class Chart:
    """A drawing of `width` by `height` pixels; the marks are drawn in the order of the calls."""

    width: int
    height: int
    title: str
    description: str
    _parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, said: str, *, anchor: str = "start", kind: str = "") -> None:
        """A line of text; `kind` is a class of the style sheet: `head`, `faint`."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(said)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line of the class `kind`."""
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def dot(self, x: float, y: float, series: int, radius: float = 3.5) -> None:
        """A round mark of a series."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="f{series}"/>')

    def bar(self, x: float, y: float, width: float, height: float, series: int) -> None:
        """A filled rectangle of a series."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="f{series}"/>'
        )

    def legend(self, x: float, y: float, names: Sequence[tuple[int, str]]) -> None:
        """Series and their names in a row."""
        for series, name in names:
            self.bar(x, y - 9, 10, 10, series)
            self.text(x + 15, y, name)
            x += 34 + 6.6 * len(name)

    def left_axis(self, scale: Scale, x: float, right: float, unit: str) -> None:
        """Numbers left of `x`, with lines through the panel up to `right`, and the unit above."""
        for tick in scale.ticks():
            self.line(x, scale(tick), right, scale(tick), "grid")
            self.text(x - 6, scale(tick) + 4, number(tick), anchor="end", kind="faint")
        self.text(x - 6, scale.end - 10, unit, anchor="end", kind="faint")

    def svg(self) -> str:
        """The whole as a file."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<desc>{escape(self.description)}</desc>",
                f"<style>{_style(0)}\n@media (prefers-color-scheme: dark) {{\n{_style(1)}\n}}</style>",
                f'<rect width="{self.width}" height="{self.height}" class="ground"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _style(mode: int) -> str:
    rules = [
        f"text {{ font: {TEXT_PX}px system-ui, sans-serif; fill: {INK[mode]}; }}",
        "text.head { font-weight: 600; }",
        "text.faint { opacity: 0.75; }",
        f".ground {{ fill: {GROUND[mode]}; }}",
        f".grid {{ stroke: {GRID[mode]}; stroke-width: 1; }}",
        f".rule {{ stroke: {INK[mode]}; stroke-width: 1.5; stroke-dasharray: 5 4; }}",
    ]
    for series, colours in enumerate(PALETTE):
        rules.append(f".f{series} {{ fill: {colours[mode]}; }}")
        rules.append(f".s{series} {{ stroke: {colours[mode]}; stroke-width: 2; }}")
        rules.append(f".w{series} {{ stroke: {colours[mode]}; stroke-width: 1.2; opacity: 0.7; }}")
    return "\n".join(rules)
