"""When Ctrl-C interrupts, leaves, or waits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.interrupts import held_back, leave_at_once

ROOT = Path(__file__).resolve().parents[3]


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["cli.interrupts", "cli.dispatch", "cli.commands.about"])
def test_ctrl_c_while_the_program_loads_is_exit_130_and_one_line(module: str) -> None:
    """The interrupt comes up inside the import of `module`."""
    done = run(
        "import signal, sys\n"
        "from cli.main import main\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "sys.argv = ['varpulis', 'version']\n"
        "sys.exit(main())\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "varpulis: interrupted\n")


def test_the_entry_point_loads_nothing_heavy_before_it_handles_ctrl_c() -> None:
    done = run(
        "import sys\nbefore = set(sys.modules)\nimport cli.main\nprint(sorted(set(sys.modules) - before))"
    )
    assert done.stdout.strip() == "['cli', 'cli.main']"


def test_what_is_held_back_comes_up_after_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("done")
    assert steps == ["done"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_for_which_ctrl_c_is_ignored_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with leave_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
