"""Commands on copies and data directories: what is written, and what is refused before anything is touched.

What the package `raft` does offline is stood in for here; tests/integration has the real thing.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cli.main import main
from raft.errors import RaftError
from tests.unit.cli.stand_in import Coordinator, serving

DATA = b"\x00the state\xff"


class Info(msgspec.Struct):
    ok: bool
    problem: str | None
    cluster: str = "x"
    last_index: int = 7
    taken_at_ms: int = 0


class Generation(msgspec.Struct):
    number: int = 4
    members: tuple[str, ...] = ("d1", "d2")
    retired: tuple[str, ...] = ("c1",)


class Offline:
    """Stands in for `raft.backup`, `raft.recovery` and `raft.verify`; keeps what it was called with."""

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.fails: Exception | None = None
        self.meanwhile: Path | None = None
        self.report: dict[str, Any] = {}

    def inspect(self, path: Path) -> Info:
        if self.meanwhile is not None:
            self.meanwhile.write_text("somebody else's")
        ok = path.read_bytes() == DATA
        return Info(ok, None if ok else "its checksum does not match")

    def restore(self, *given: Any, **named: Any) -> Generation:
        return self._act("restore", given, named)

    def recover(self, *given: Any, **named: Any) -> Generation:
        return self._act("recover", given, named)

    def verify(self, directory: Path) -> dict[str, Any]:
        return {**self.report, "directory": str(directory)}

    def _act(self, *call: Any) -> Generation:
        self.called.append(call)
        if self.fails is not None:
            raise self.fails
        return Generation()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Offline:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    fake = Offline()
    modules = {"backup": ["inspect"], "recovery": ["restore", "recover"], "verify": ["verify"]}
    for module, names in modules.items():
        functions = SimpleNamespace(**{name: getattr(fake, name) for name in names})
        monkeypatch.setitem(sys.modules, f"raft.{module}", functions)
    return fake


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    with serving() as server:
        monkeypatch.setenv("VARPULIS_URL", server.url)
        server.answer = DATA
        yield server


def save(*flags: str) -> int:
    return main(["raft", "snapshot", "save", "a.backup", *flags])


def test_a_copy_is_whole_checked_and_its_owners_alone(
    coordinator: Coordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert save("-o", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["file"], shown["ok"], shown["last_index"]) == ("a.backup", True, 7)
    (copy,) = tmp_path.iterdir()
    assert (copy.name, copy.read_bytes(), copy.stat().st_mode & 0o777) == ("a.backup", DATA, 0o600)
    assert coordinator.asked == [("GET", "/snapshot?wait=30.0", None)]


def test_a_file_that_is_there_stays_unless_the_user_says_force(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    (tmp_path / "a.backup").write_text("mine")
    assert save() == 2
    assert ((tmp_path / "a.backup").read_text(), coordinator.asked) == ("mine", [])
    assert save("--force") == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [DATA]


def test_a_file_that_comes_while_the_copy_is_fetched_stays_too(
    coordinator: Coordinator, offline: Offline, tmp_path: Path
) -> None:
    offline.meanwhile = tmp_path / "a.backup"
    assert save() == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["somebody else's"]


def test_a_copy_that_came_damaged_is_not_kept(
    coordinator: Coordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator.answer = DATA[:-1]
    (tmp_path / "a.backup").write_text("the last good one")
    assert save("--force") == 1
    assert "checksum" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the last good one"]


def test_a_place_that_cannot_be_written_is_one_line(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["raft", "snapshot", "save", "nowhere/a.backup"]) == 1
    assert capsys.readouterr().err.startswith("varpulis: nowhere/a.backup cannot be written: ")


def test_inspect_fails_for_a_damaged_copy_and_still_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    assert main(["raft", "snapshot", "inspect", "a.backup"]) == 0
    (tmp_path / "a.backup").write_bytes(b"x")
    capsys.readouterr()
    assert main(["raft", "snapshot", "inspect", "a.backup", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["ok"] is False and "checksum" in err
    assert main(["raft", "snapshot", "inspect", "other.backup"]) == 2


WHERE = ["--id", "d1", "--members", "d1,d2", "--data-dir", "there"]
RESTORE = ["raft", "snapshot", "restore", "a.backup", *WHERE, "--cluster-id", "x"]
RECOVER = ["raft", "recover", *WHERE]


def test_a_restore_has_to_be_meant(
    offline: Offline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    assert main(RESTORE) == 2
    assert "say --yes" in capsys.readouterr().err
    assert offline.called == []
    assert main([*RESTORE, "--yes", "-o", "json"]) == 0
    named = {"cluster_id": "x", "node_id": "d1", "members": ("d1", "d2")}
    assert offline.called == [("restore", (Path("a.backup"), Path("there")), named)]
    out, err = capsys.readouterr()
    assert json.loads(out)["members"] == ["d1", "d2"]
    assert "varpulis coordinator --id d1 --members d1,d2 --cluster-id x --data-dir there" in err


INTO = ["raft", "snapshot", "restore", "a.backup", "--into", "x"]
RESTORED = {"cluster_id": "x", "last_index": 7, "taken_at_ms": 0, "groups": 2, "pipelines": 3, "kept": 1}


def test_a_running_cluster_gets_a_copy_only_when_its_id_is_said_and_meant(
    coordinator: Coordinator, offline: Offline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    coordinator.answer = json.dumps(RESTORED).encode()
    assert main(INTO) == 2
    said = capsys.readouterr().err
    assert "the whole state of the running cluster x" in said and "say --yes" in said
    assert coordinator.asked == []
    assert main([*INTO, "--yes", "--wait", "3", "-o", "json"]) == 0
    assert coordinator.asked == [("POST", "/snapshot?wait=3.0&confirm=x", DATA)]
    out, err = capsys.readouterr()
    assert json.loads(out) == RESTORED and "2 of 3 pipelines are being placed" in err
    assert offline.called == []


@pytest.mark.parametrize(("word", "exit_code"), [("x\n", 0), ("yes\n", 2), ("\n", 2)])
def test_on_a_terminal_the_id_of_the_cluster_is_typed(
    coordinator: Coordinator, tmp_path: Path, word: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    coordinator.answer = json.dumps(RESTORED).encode()
    terminal = io.StringIO(word)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(INTO) == exit_code
    assert len(coordinator.asked) == (1 if exit_code == 0 else 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (RESTORE[:4], "--into CLUSTER replaces the state of the running cluster"),
        ([*INTO[:-1], "y"], "say --from-cluster x if that is meant"),
        ([*INTO[:-1], "y", "--from-cluster", "z"], "say --from-cluster x if that is meant"),
        ([*INTO, "--id", "c1"], "--id for a directory"),
        ([*INTO, "--data-dir", "d"], "--url names the coordinators"),
        ([*RESTORE, "--from-cluster", "x"], "belongs to --into"),
        ([*RESTORE[:4], "--id", "c 1", "--members", "c 1"], "use 1 to 64 letters"),
    ],
)
def test_which_restore_is_meant_has_to_be_said(
    coordinator: Coordinator,
    offline: Offline,
    tmp_path: Path,
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    assert main([*arguments, "--yes"]) == 2
    assert text in capsys.readouterr().err
    assert coordinator.asked == [] and offline.called == []


def test_a_copy_of_another_cluster_goes_when_that_is_said_and_a_damaged_one_never(
    coordinator: Coordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    coordinator.answer = json.dumps(RESTORED).encode()
    foreign = [*INTO[:-1], "y", "--from-cluster", "x", "--yes"]
    assert main(foreign) == 0
    assert [asked[1] for asked in coordinator.asked] == ["/snapshot?wait=30.0&confirm=y&from_cluster=x"]
    (tmp_path / "a.backup").write_bytes(b"damaged")
    assert main(foreign) == 1
    assert "checksum" in capsys.readouterr().err and len(coordinator.asked) == 1


def test_a_recovery_has_to_be_meant_in_words(offline: Offline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RECOVER) == 2
    assert "--i-accept-lost-writes" in capsys.readouterr().err
    assert offline.called == []
    assert main([*RECOVER, "--i-accept-lost-writes"]) == 0
    assert offline.called == [("recover", (Path("there"),), {"node_id": "d1", "members": ("d1", "d2")})]
    assert "no other former member ever runs again" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RaftError("the directory is not empty"), OSError(28, "No space left")])
def test_what_cannot_be_done_offline_is_one_line_and_exit_code_1(
    offline: Offline, error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.backup").write_bytes(DATA)
    offline.fails = error
    for command in ([*RESTORE, "--yes"], [*RECOVER, "--i-accept-lost-writes"]):
        assert main(command) == 1
        assert capsys.readouterr().err == f"varpulis: {error}\n"


@pytest.mark.parametrize("command", [RESTORE[:4], ["raft", "recover"], ["raft", "verify"]])
def test_what_is_missing_is_named_before_anything_is_done(command: list[str], offline: Offline) -> None:
    Path("a.backup").write_bytes(DATA)
    assert main([*command, *(["--yes"] if "restore" in command else [])]) == 2
    assert offline.called == []


FINDING = {"severity": "error", "file": "journal-1.log", "offset": 77, "text": "a checksum does not match"}
SEGMENT = {
    "file": "journal-1.log",
    "number": 1,
    "bytes": 900,
    "records": 5,
    "first_index": 2,
    "last_index": 5,
    "torn_bytes": 3,
    "stands_alone": False,
}
PART: dict[str, Any] = {
    "ok": True,
    "cluster": "x",
    "node": "c1",
    "generation": 1,
    "members": ["c1"],
    "term": 3,
    "voted_for": None,
    "incarnation": 2,
    "first_index": 2,
    "last_index": 5,
    "segments": [SEGMENT],
    "snapshot": {"file": "snapshot", "last_index": 2, "last_term": 1, "bytes": 99},
    "findings": [],
}


def test_verify_shows_each_directory_and_fails_when_something_is_damaged(
    offline: Offline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offline.report = {**PART, "generations": []}
    assert main(["raft", "verify", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "no damage found" in said and "up to entry 2, 99 bytes" in said and "journal-1.log" in said
    later = {**PART, "directory": "generation-2", "ok": False, "findings": [FINDING]}
    offline.report = {**PART, "ok": False, "generations": [later]}
    assert main(["raft", "verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "generation-2" in said and "77" in said and "a checksum does not match" in said
    assert said.count("DIRECTORY") == 2
    offline.report = {**PART, "segments": [], "snapshot": None, "generations": [later]}
    main(["raft", "verify", str(tmp_path)])
    assert capsys.readouterr().out.count("DIRECTORY") == 1, "an older generation that is gone is not shown"
    offline.report = {**PART, "ok": False, "generations": [later]}
    assert main(["raft", "verify", str(tmp_path), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["generations"][0]["findings"] == [FINDING]
    assert main(["raft", "verify", "nowhere"]) == 2
