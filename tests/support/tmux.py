"""A real terminal: a tmux server of a test's own, with one shell in it."""

import contextlib
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.cluster import poll


class Terminal:
    """What a person sees and types."""

    def __init__(self, program: str, socket: Path) -> None:
        self.command = [program, "-S", str(socket), "-f", "/dev/null"]

    def do(self, *words: str) -> str:
        """One command of tmux."""
        return subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout

    def type(self, line: str) -> None:
        """Type it, and press Enter."""
        self.do("send-keys", "-t", "main", "-l", line)
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press one key, as tmux names it."""
        self.do("send-keys", "-t", "main", key)

    @property
    def screen(self) -> str:
        """What is on the screen."""
        return self.do("capture-pane", "-p", "-t", "main")

    @property
    def shell(self) -> int:
        """The pid of the shell."""
        return int(self.do("display-message", "-p", "-t", "main", "#{pane_pid}"))

    @property
    def second_screen(self) -> bool:
        """Whether a program has taken the whole terminal."""
        return self._flag("alternate_on")

    @property
    def cursor_shown(self) -> bool:
        return self._flag("cursor_flag")

    def sees(self, *wanted: str, timeout: float = 20.0) -> str:
        """The screen, once all of it is there."""
        try:
            poll(lambda: all(each in self.screen for each in wanted), timeout=timeout)
        except AssertionError:
            raise AssertionError(f"not seen: {wanted}, but:\n{self.screen}") from None
        return self.screen

    def _flag(self, name: str) -> bool:
        return self.do("display-message", "-p", "-t", "main", f"#{{{name}}}").strip() == "1"


@contextlib.contextmanager
def terminal(
    directory: Path, environment: Mapping[str, str], *, columns: int = 150, lines: int = 45
) -> Iterator[Terminal]:
    """One with `varpulis` on its path; skips the test where there is no tmux."""
    program = shutil.which("tmux")
    if program is None:
        pytest.skip("tmux is not installed (Debian: apt-get install tmux)")
    command = directory / "bin" / "varpulis"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli.main "$@"\n')
    command.chmod(0o755)
    socket = Path("/tmp") / f"varpulis-{uuid.uuid4().hex[:12]}"  # a path of pytest's may be too long for one
    made = Terminal(program, socket)
    ours = ("TMUX", "COLUMNS", "LINES")
    inherited = {name: value for name, value in environment.items() if name not in ours}
    size = ("-x", str(columns), "-y", str(lines))
    subprocess.run(
        [*made.command, "new-session", "-d", "-s", "main", *size, "sh"],
        env={**inherited, "PATH": f"{command.parent}:{inherited['PATH']}", "ENV": ""},
        cwd=directory,
        timeout=10,
        check=True,
    )
    try:
        yield made
    finally:
        made.do("kill-server")
        socket.unlink(missing_ok=True)
