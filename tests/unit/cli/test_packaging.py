"""What an installation stands on: everything pinned, with hashes, from nowhere in particular."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9._-]*)(\[[a-z,]+\])?==\S+[^\n]*\\\n(?: +--hash=sha256:[0-9a-f]{64}[^\n]*\n)+",
    re.MULTILINE,
)


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def locked() -> set[str]:
    return {canonical(entry["name"]) for entry in ENTRY.finditer(LOCK)}


def test_every_declared_requirement_is_locked_with_hashes() -> None:
    project = PROJECT["project"]
    declared = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    assert {canonical(requirement) for requirement in declared} <= locked()


def test_every_line_of_the_lock_belongs_to_a_pinned_entry() -> None:
    rest = "\n".join(
        line for line in ENTRY.sub("", LOCK).splitlines() if line and not line.lstrip().startswith("#")
    )
    assert rest == ""


def test_the_lock_names_no_index_and_no_path() -> None:
    for word in ("http:", "https:", "file:", "--index", "--find-links", "-e ", "/tmp", "/home", "/work"):
        assert word not in LOCK


@pytest.mark.parametrize(
    ("target", "runs"),
    [("up", "varpulis up"), ("test", "-m pytest"), ("lint", "lint-imports"), ("lock", "--generate-hashes")],
)
def test_a_make_target_runs_what_it_says_in_the_environment_of_the_lock(target: str, runs: str) -> None:
    planned = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert runs in planned.stdout
    assert ".venv/bin/" in planned.stdout


def test_make_refuses_an_old_python_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.1" || exit 1\n')
    old.chmod(0o755)
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    refused = subprocess.run(
        ["make", "up", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
    )
    assert refused.returncode != 0
    assert "Python 3.8.1, older than 3.11" in refused.stderr
