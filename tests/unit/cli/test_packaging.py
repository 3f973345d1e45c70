"""What an installation stands on: everything pinned, with hashes, from nowhere in particular."""

import re
import tomllib
from pathlib import Path

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
