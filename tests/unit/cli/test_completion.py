"""Completion in real shells: what each offers for a line, against the tables that the parser is made from.

bash is asked through its own variables and once through a terminal; zsh and fish where they are installed.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.catalog import COMMANDS
from cli.completion import fish, posix, words
from cli.completion.tree import FILES, levels
from cli.main import main
from cli.settings import BY_KEY
from tests.support.ports import free_port
from tests.unit.cli.stand_in import Coordinator, serving

SHELLS = ("bash", "zsh", "fish")
SCRIPTS = {"bash": posix.bash, "zsh": posix.zsh, "fish": fish.fish}
OUTPUTS = {command.name: set(command.outputs) for command in COMMANDS}
ROOT = Path(__file__).resolve().parents[3]

_BASH = """
source "$1"; COMP_LINE="$2"; COMP_POINT=${#COMP_LINE}; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_varpulis; printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """
compdef() { :; }
compadd() { [[ $1 == -- ]] && shift; print -rl -- "$@"; }
compset() { :; }
_describe() { local -a all; [[ $1 == -o ]] && shift; all=("${(@P)2}"); print -rl -- "${all[@]%%:*}"; }
_files() { print -rl -- *(N); }
source "$1"; shift
words=("$@"); CURRENT=$#words
_varpulis
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with a program `varpulis`, to come first in PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "varpulis"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    program.chmod(0o755)
    return directory


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with two files."""
    directory = tmp_path / "here"
    directory.mkdir()
    for name in ("one.vpl", "two words.vpl"):
        (directory / name).write_text("")
    return directory


@pytest.fixture
def offers(programs: Path, here: Path, tmp_path: Path) -> "Offers":
    return Offers(programs, here, tmp_path)


class Offers:
    """What a shell offers for a line whose cursor is at its end."""

    def __init__(self, programs: Path, here: Path, directory: Path) -> None:
        self.here, self._directory = here, directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VARPULIS_")}
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(directory)}

    def script(self, shell: str) -> Path:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed, so its script is not tried here")
        path = self._directory / f"script.{shell}"
        path.write_text(SCRIPTS[shell]())
        return path

    def __call__(self, shell: str, line: str, **environ: str) -> set[str]:
        script = str(self.script(shell))
        last = [""] if line.endswith(" ") else []
        if shell == "bash":
            divided = re.findall(r"[=:]+|[^\s=:]+", line) + last
            command = ["bash", "--norc", "-c", _BASH, "bash", script, line, *divided]
        elif shell == "zsh":
            command = ["zsh", "-f", "-c", _ZSH, "zsh", script, *line.split(), *last]
        else:
            command = ["fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', script, line]
        done = subprocess.run(
            command,
            cwd=self.here,
            env={**self.environment, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.stderr, done.stderr
        found = {one.partition("\t")[0].strip() for one in done.stdout.splitlines()} - {""}
        if shell == "zsh":  # which leaves it to its own functions what fits
            begun = "" if last else line.split()[-1].rpartition("=")[2]
            found = {one for one in found if one.startswith(begun)}
        return found


@pytest.fixture
def cluster() -> Iterator[Coordinator]:
    with serving() as server:
        yield server


# -- the scripts


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_is_one(shell: str, offers: Offers) -> None:
    script = offers.script(shell)
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == SCRIPTS[shell]()


def test_every_command_and_each_of_its_options_is_in_the_tree() -> None:
    known = levels()
    for command in COMMANDS:
        if command.hidden:
            assert command.name not in known
            continue
        above, _, name = command.name.rpartition(" ")
        assert known[above].below[name] == command.summary
        offered = {word for flag in known[command.name].flags for word in flag.words}
        assert {word for option in command.options for word in option.flags} <= offered
        assert ("-o" in offered) == command.shows and {"--config", "--help"} <= offered
        assert {flag for key in command.settings for flag in BY_KEY[key].flags} <= offered


def test_an_argument_that_names_a_file_is_completed_as_one() -> None:
    for command in COMMANDS:
        for argument in command.arguments:
            if argument.name in ("file", "files", "directory"):
                assert argument.words == FILES, (command.name, argument.name)


def test_every_kind_of_words_is_one_that_can_be_asked_for() -> None:
    kinds = {argument.words for command in COMMANDS for argument in command.arguments}
    kinds |= {option.words for command in COMMANDS for option in command.options}
    asked = {kind for kind in kinds if isinstance(kind, str)} - {"", FILES}
    assert asked <= words.KINDS.keys()


# -- what they offer


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("varpulis sta", {"status"}),
        ("varpulis raft s", {"status", "snapshot"}),
        ("varpulis raft snapshot ", {"save", "inspect", "restore"}),
        ("varpulis completion ", {"bash", "zsh", "fish"}),
        ("varpulis status --ti", {"--timeout"}),
        ("varpulis status --url http://127.0.0.1:1 --ti", {"--timeout"}),
        ("varpulis up --no-d", {"--no-demo"}),
        ("varpulis status -o ", OUTPUTS["status"]),
        ("varpulis status --output=j", {"json"}),
        ("varpulis status --url x --output ta", {"table"}),
        ("varpulis drill run all -o h", {"html"}),
        ("varpulis key create o", {"operator"}),
        ("varpulis key create --note operator a", {"admin"}),
        ("varpulis connector create Bus m", {"memory"}),
        ("varpulis doctor cl", {"clocks"}),
        ("varpulis doctor nats cl", {"clocks"}),
        ("varpulis drill run worker-d", {"worker-drain"}),
        ("varpulis check ", {"one.vpl", "two words.vpl"}),
        ("varpulis fmt one.vpl o", {"one.vpl"}),
        ("varpulis status --tls-ca o", {"one.vpl"}),
        ("varpulis status --timeout ", set()),
        ("varpulis inject g Type ", set()),
        ("varpulis nothing ", set()),
        ("varpulis demo-g", set()),
    ],
)
def test_a_line_is_completed(shell: str, line: str, offered: set[str], offers: Offers) -> None:
    found = offers(shell, line)
    if shell == "fish":  # which writes what it offers as it would stand in the line, and adds what may follow
        found = {one.rpartition("=")[2].replace("\\ ", " ") for one in found}
    assert found == offered


def test_every_command_is_offered_and_no_hidden_one(offers: Offers) -> None:
    shown = {command.name.split()[0] for command in COMMANDS if not command.hidden}
    assert offers("bash", "varpulis ") == shown


@pytest.mark.parametrize("shell", SHELLS)
def test_names_come_from_the_cluster_that_the_line_means(
    shell: str, offers: Offers, cluster: Coordinator
) -> None:
    cluster.answer = json.dumps({"workers": [{"id": "w-1"}, {"id": "w-2"}, {"id": "$(touch x)"}]}).encode()
    assert offers(shell, f"varpulis worker drain --url {cluster.url} w-") == {"w-1", "w-2"}
    assert offers(shell, "varpulis migrate g/p --to w-2", VARPULIS_URL=cluster.url) == {"w-2"}
    assert not (offers.here / "x").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_cluster_that_is_away_costs_nothing_and_says_nothing(shell: str, offers: Offers) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    assert offers(shell, "varpulis worker drain ", VARPULIS_URL=away) == set()


def test_a_tab_in_a_terminal_completes_the_word(offers: Offers, tmp_path: Path) -> None:
    script, program = offers.script("bash"), tmp_path / "bin" / "varpulis"
    program.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**offers.environment, "TERM": "dumb"})
    try:
        os.write(terminal, f"source {script}; echo read''y\n".encode())
        until(terminal, "\nready")
        os.write(terminal, b"varpulis raft sta\t--url x\n")
        assert "<raft><status><--url><x>" in until(terminal, "<x>")
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def until(terminal: int, awaited: str) -> str:
    """What a terminal shows, as soon as that is in it."""
    deadline, seen = time.monotonic() + 30, ""
    while awaited not in seen.replace("\r", ""):
        left = deadline - time.monotonic()
        assert left > 0 and select.select([terminal], [], [], left)[0], f"only {seen!r}"
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


# -- the words


@pytest.mark.parametrize(
    ("kind", "path", "answer", "known"),
    [
        ("groups", "/pipeline-groups?limit=1000", {"pipeline_groups": [{"name": "g"}]}, "g\n"),
        (
            "pipelines",
            "/pipeline-groups?limit=1000",
            {"pipeline_groups": [{"name": "g", "placements": [{"instance_of": "p"}, {"instance_of": "p"}]}]},
            "g/p\n",
        ),
        ("connectors", "/connectors?limit=1000", {"connectors": [{"name": "Bus"}]}, "Bus\n"),
        ("keys", "/keys?limit=1000", {"keys": [{"id": "k1"}]}, "k1\n"),
        ("migrations", "/migrations?limit=1000", {"migrations": [{"id": "m1"}]}, "m1\n"),
        ("coordinators", "/raft", {"nodes": [{"id": "c1"}, {"id": "c2"}]}, "c1\nc2\n"),
    ],
)
def test_words_of_a_kind_are_one_request(
    kind: str,
    path: str,
    answer: object,
    known: str,
    cluster: Coordinator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.answer = json.dumps(answer).encode()
    assert main(["completion", "words", kind, "--url", cluster.url]) == 0
    assert capsys.readouterr() == (known, "")
    assert cluster.asked == [("GET", path, None)]


@pytest.mark.parametrize("kind", ["workers", "nothing"])
def test_what_cannot_be_had_is_silence(
    kind: str, capsys: pytest.CaptureFixture[str], cluster: Coordinator
) -> None:
    cluster.status, cluster.answer = 401, b'{"error": "this cluster asks for a key"}'
    assert main(["completion", "words", kind, "--url", cluster.url]) == 0
    assert capsys.readouterr() == ("", "")


def test_who_presses_tab_waits_for_a_second_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()

    def slow(call: object) -> list[str]:
        release.wait(60)
        return ["late"]

    monkeypatch.setitem(words.KINDS, "workers", slow)
    monkeypatch.setattr(words, "DEADLINE", 0.05)
    try:
        assert main(["completion", "words", "workers"]) == 0
    finally:
        release.set()
    assert capsys.readouterr().out == ""


def test_the_hidden_command_is_in_no_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "--help"])
    shown = capsys.readouterr().out
    assert "fish" in shown and "words" not in shown.replace("{bash", "")
