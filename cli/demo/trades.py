"""The trades of the demo: a pure function of their number, so what must come out can be said beforehand.

Trade `n` (from 0) is of symbol `n % 4`. Each symbol's trades alternate between a small volume (50) and a
large one (150); each 200th trade, always a large one, is a block of 5000. So of N trades, N a multiple of
400, N/2 are large, N/200 are blocks, and, as each ten large ones of a symbol are summed up, N/20
statistics come out.
"""

from dataclasses import dataclass
from typing import Any, Final

SYMBOLS: Final = ("ALFA", "BRAVO", "DELTA", "ECHO")
EVENT_TYPE: Final = "Trade"
_WINDOW: Final = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo group puts out for a number of trades."""

    large: int
    blocks: int
    statistics: int


def trade(number: int) -> dict[str, Any]:
    """The fields of one trade: `n`, `symbol`, `price` (cents) and `volume`, all integers but the symbol."""
    kind = number % len(SYMBOLS)
    return {
        "n": number,
        "symbol": SYMBOLS[kind],
        "price": 10_000 * (kind + 1) + number * 7 % 401,
        "volume": 5_000 if number % 200 == 199 else 150 if _is_large(number) else 50,
    }


def subject(number: int) -> str:
    """Where the trade is published."""
    return f"demo.trades.{SYMBOLS[number % len(SYMBOLS)]}"


def figures(trades: int) -> Figures:
    """What comes out for the trades 0 to `trades` - 1, when none is lost."""
    large = [0] * len(SYMBOLS)
    for number in range(trades):
        large[number % len(SYMBOLS)] += _is_large(number)
    return Figures(
        large=sum(large), blocks=trades // 200, statistics=sum(count // _WINDOW for count in large)
    )


def _is_large(number: int) -> bool:
    return number // len(SYMBOLS) % 2 == 1
