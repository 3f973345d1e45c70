"""What the documents tell a reader to type is typed here: the blocks marked `sh test=NAME`, in a row."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.up.ports import free_port_range
from tests.deploy.credentials import needs_openssl
from tests.support.cluster import ROOT, environment, varpulis

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
BLOCK = re.compile(r"^```sh test=(?P<name>\w+)\n(?P<commands>.*?)^```", re.MULTILINE | re.DOTALL)
END_WHAT_RUNS = "kill $(jobs -p) 2>/dev/null || true"
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#]+)")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(name: str) -> str:
    """The commands of all blocks of that name, in the order of the documents."""
    found = [match for path in DOCUMENTS for match in BLOCK.finditer(path.read_text())]
    return "".join(match["commands"] for match in found if match["name"] == name)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that looks like the project to a reader: `varpulis` on PATH, `deploy/` beside them."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    command = tmp_path / "bin" / "varpulis"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli.main "$@"\n')
    command.chmod(0o755)
    yield tmp_path
    varpulis("down", cwd=tmp_path)


def typed(commands: str, place: Path) -> str:
    """What the commands print; every one of them must succeed, also on a machine that is slow with them."""
    port = free_port_range()
    settings = {
        "VARPULIS_UP_HTTP_PORT": str(port),
        "VARPULIS_UP_NATS_PORT": str(port + 39),
        "VARPULIS_UP_READY_TIMEOUT": "90",
        "VARPULIS_TIMEOUT": "60",
    }
    with subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", f"trap '{END_WHAT_RUNS}' EXIT\n{commands}"],
        cwd=place,
        env=environment({**settings, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            said, errors = shell.communicate(timeout=220)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    assert shell.returncode == 0, f"{said}\n{errors}"
    return said


def test_ten_minutes_of_the_quickstart_lead_to_a_pipeline_that_outlives_its_worker(place: Path) -> None:
    said = typed(script("tenminutes"), place)
    assert "climate.vpl: no mistakes found" in said
    assert said.count("mean=28.5") == 1, "two readings moved with it, and the third made the mean"
    last = said[said.rindex("pipeline_placed") :]
    assert re.search(r"mean=(30|28\.6)", last), f"the pipeline goes on after its worker was killed:\n{last}"
    assert re.search(r"climate +warm|climate +climate", said)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page has its place in the navigation, and every link and anchor leads somewhere."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "deploy" / "index.html").read_text()
    assert 'id="systemd"' in page and "test=deploy" not in page
    named = re.findall(r"(?:src|href)=\"(https?://[^\"]+)", page)
    assert named == [], "a page asks a third party"


def test_five_minutes_of_the_readme_lead_to_an_event(place: Path) -> None:
    said = typed(script("quickstart"), place)
    assert "doors: running" in said
    assert "badge=b-17, secs=45, level=low" in said
    assert "stopped 7 processes" in said


def test_events_are_stored_for_a_group_that_delivers_exactly_once_as_the_docs_tell(place: Path) -> None:
    said = typed(script("delivery"), place)
    assert said.count("stored for clean") == 3
    assert re.search(r"payments/sums|sums +.*running", said)


def test_a_pipeline_moves_and_a_worker_is_drained_as_the_docs_tell(place: Path) -> None:
    said = typed(script("workers"), place)
    assert re.search(r"demo/filter +done +manual +worker-0 +worker-1", said)
    assert re.search(r"worker-1 +done +2 +2", said)
    assert "worker-1 is uncordoned" in said


def test_programs_are_tried_without_a_cluster_as_the_docs_tell(place: Path) -> None:
    said = typed(script("programs"), place)
    assert "doors.vpl: no mistakes found" in said
    assert '"badge": "b-19", "secs": 120, "level": "high"' in said
    assert "aggregate" in said and "def on_Held" in said


def test_the_failovers_of_the_docs_happen_as_told(place: Path) -> None:
    said = typed(script("failover"), place)
    assert re.search(r"filter +running +worker-1", said)
    assert "stopped 7 processes" in said


def test_the_changes_of_members_that_the_docs_show_can_be_made(place: Path) -> None:
    said = typed(script("members"), place)
    assert re.search(r"coordinator-3 +\w+", said)
    assert "coordinator-0, coordinator-1, coordinator-4" in said
    assert "d1, d2, d3" in said


def test_the_group_of_the_placement_page_stands_where_its_constraints_say(place: Path) -> None:
    said = typed(script("placement"), place)
    assert re.search(r"totals-[01] +running +north-1", said)
    assert re.search(r"totals-[01] +running +south-1", said)
    assert re.search(r"clean +running +(north|south)-1", said)
    assert re.search(r"went to clean; 1 came out", said)


@needs_openssl
def test_credentials_are_made_as_the_docs_tell(place: Path) -> None:
    said = typed(script("deploy"), place)
    assert "secrets/coordinator-0.pem: OK" in said
    assert (place / "secrets" / "worker-2.pem").exists()
    assert (place / "demo" / "demo-varpulis-coordinator-0.password").exists()
    named = subprocess.run(
        ["openssl", "x509", "-in", place / "demo" / "coordinators.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "DNS:*.demo-varpulis-coordinator.prod.svc" in named.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for link in LINK.finditer(path.read_text()):
        assert (path.parent / link["target"]).exists(), link["target"]


def test_the_tests_that_the_raft_page_cites_exist() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    cited = re.findall(r"`(test_\w+|without_\w+)`", (ROOT / "docs" / "raft.md").read_text())
    assert cited
    assert [name for name in cited if f"def {name}(" not in tests] == []
