"""`top`: the cluster on one screen, drawn anew until `q`; elsewhere than on a terminal one sample."""

import time
from typing import TYPE_CHECKING, Any, Final

from cli.client import Refused, Unreachable
from cli.errors import OK
from cli.invocation import Invocation, Rows
from cli.top.looks import Look, look
from cli.top.sample import ORDERS, Looks
from cli.top.view import headline, tables
from cli.watch import Patience, Round, interval, may_pass

if TYPE_CHECKING:
    from cli.terminal import Terminal

_PATIENCE: Final = 3.0
"""Seconds for an answer: a screen that stands still for longer looks dead."""


def top(call: Invocation) -> int:
    """The live screen, or one sample, of which the rates come from two looks."""
    from cli.terminal import is_live, taken

    every = interval(call)
    if not call.for_programs and is_live():
        with taken() as terminal:
            return _live(call, terminal, every)
    looks = Looks()
    looks.add(_look(call))
    time.sleep(every)
    looks.add(_look(call))
    sample = looks.sample()
    call.show(sample, Rows((), (), headline(sample)), *tables(sample))
    return OK


def _live(call: Invocation, terminal: "Terminal", every: float) -> int:
    looks, patience, order, sample, silence = Looks(), Patience(every), 0, None, ""
    while True:
        quiet = Round(call.settings, call.arguments, call.output)  # what it has to say goes on the screen
        try:
            looks.add(_look(quiet))
            silence, pause = "", patience.answered()
        except (Refused, Unreachable) as error:
            if not may_pass(error):
                raise
            silence, pause = str(error), patience.failed()
        until = time.monotonic() + pause
        while True:
            if not silence or sample is not None:
                sample = looks.sample(ORDERS[order])
            _draw(terminal, sample, ORDERS[order], silence, quiet.notes)
            key = terminal.pause(until - time.monotonic())
            if key == "q":
                return OK
            if key == "s":
                order = (order + 1) % len(ORDERS)
            elif time.monotonic() >= until:
                break


def _draw(
    terminal: "Terminal", sample: dict[str, Any] | None, order: str, silence: str, notes: list[str]
) -> None:
    from rich.text import Text

    parts: list[Any] = [
        Text(f"varpulis top   {time.strftime('%H:%M:%S')}   sorted by {order}   s sorts, q ends", style="dim")
    ]
    if silence:
        last = "" if sample is None else "; below is what was seen last"
        parts.append(Text(f"NO ANSWER, looking again{last}: {silence}", "bold red"))
    parts += [Text(note) for note in dict.fromkeys(notes)]
    if sample is not None:
        parts.append(Text(headline(sample), "bold"))
        for table in tables(sample, terminal.height - len(parts)):
            parts += ["", *table.parts(edge=False)]
    terminal.draw(parts)


def _look(call: Invocation) -> Look:
    with call.client(call.urls(), min(call.settings["client.timeout"], _PATIENCE)) as client:
        return look(client)
