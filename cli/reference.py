"""The reference pages, made from the tables: `python -m cli.reference` writes them anew, a test compares.

In each page the text between `<!-- generated -->` and `<!-- end of generated -->` is ours; the rest is
written by hand and stays.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cli.catalog import COMMANDS, Argument, Command
from cli.messages_page import messages_table
from cli.metrics_page import metrics_table
from cli.setting import Setting
from cli.settings import BY_KEY, SETTINGS

_BEGIN: Final = "<!-- generated -->\n"
_END: Final = "<!-- end of generated -->"
_OURS: Final = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_DOCS: Final = Path(__file__).resolve().parents[1] / "docs"


def settings_table() -> str:
    """Every setting, section by section."""
    sections = dict.fromkeys(setting.key.partition(".")[0] for setting in SETTINGS)
    return "\n".join(_section(name) for name in sections)


def commands_table() -> str:
    """Every command with its arguments, options and the settings it takes as flags."""
    return "\n".join(_command(command) for command in COMMANDS if not command.hidden)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": settings_table,
    "cli.md": commands_table,
    "metrics.md": metrics_table,
    "messages.md": messages_table,
}


def renewed(page: str) -> str:
    """The page as it should be."""
    text = (_DOCS / page).read_text()
    return _OURS.sub(lambda _: f"{_BEGIN}\n{PAGES[page]()}\n{_END}", text)


def main() -> int:
    """Write all pages."""
    for page in PAGES:
        (_DOCS / page).write_text(renewed(page))
    return 0


def _section(name: str) -> str:
    head = "| Key | Flag | Environment | Type | Default | What it is |\n|---|---|---|---|---|---|"
    rows = [_row(setting) for setting in SETTINGS if setting.key.startswith(f"{name}.")]
    return "\n".join([f"### `[{name}]`\n", head, *rows, ""])


def _row(setting: Setting) -> str:
    flag = _code(setting.flags) or ("none: secret" if setting.secret else "")
    default = f"`{setting.in_words}`" if setting.default not in (None, "", ()) else ""
    name = setting.key.partition(".")[2]
    return f"| `{name}` | {flag} | `{setting.variable}` | {setting.expected} | {default} | {setting.help} |"


def _command(command: Command) -> str:
    words = [_word(argument) for argument in command.arguments]
    lines = [
        f"### `varpulis {' '.join([command.name, *words])}`\n",
        f"{command.summary[0].upper()}{command.summary[1:]}.",
    ]
    if command.example:
        lines.append(f"\n    {command.example}")
    rows = [f"| `{argument.name.upper()}` | {argument.help} |" for argument in command.arguments]
    rows += [f"| {_code(option.flags)} | {option.help} |" for option in command.all_options]
    settings = [BY_KEY[key] for key in command.settings]
    rows += [f"| {_code(setting.flags)} | {setting.help} |" for setting in settings if setting.flags]
    if command.shows:
        choices = ", ".join(f"`-o {choice}`" for choice in command.outputs)
        rows.append(f"| {choices} | how to show it |")
    return "\n".join([*lines, "", "| | |", "|---|---|", *rows, ""])


def _word(argument: Argument) -> str:
    name = argument.name.upper()
    return f"{name}..." if argument.many else f"[{name}]" if argument.optional else name


def _code(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    sys.exit(main())
