"""`varpulis top` and `--watch` in a real terminal, on a real cluster: they follow it, and leave no trace."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import Cluster, environment, poll
from tests.support.tmux import Terminal, terminal

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("terminal"), coordinators=1, demo=True) as running:
        yield running


@pytest.fixture
def screen(tmp_path: Path, cluster: Cluster) -> Iterator[Terminal]:
    settings = {"VARPULIS_URL": ",".join(cluster.urls), "VARPULIS_TIMEOUT": "5"}
    with terminal(tmp_path, environment(settings)) as made:
        made.type("stty -a > before; echo 'the shell is' here")  # typed otherwise than it is printed
        made.sees("the shell is here")
        yield made


def in_order(screen: Terminal, directory: Path, code: int) -> None:
    """The terminal is as it was, what was on it is there again, and the command ended with `code`."""
    screen.type("echo ended with $?; stty -a > after")
    screen.sees("the shell is here", f"ended with {code}")
    poll(lambda: (directory / "after").exists() and (directory / "after").read_text())
    assert (directory / "after").read_text() == (directory / "before").read_text()
    assert screen.cursor_shown and not screen.second_screen


def test_top_follows_the_cluster_and_q_gives_the_terminal_back(
    screen: Terminal, cluster: Cluster, tmp_path: Path
) -> None:
    screen.type("varpulis top --every 0.3")
    screen.sees("All is well.", "coordinator-0", "leader", "worker-1", "demo/", "sorted by events/s")
    assert screen.second_screen and "the shell is here" not in screen.screen
    screen.press("s")
    screen.sees("sorted by load")
    cluster.kill("worker-1")
    seen = screen.sees("Worker worker-1 is not heard any more.", timeout=60)
    workers = seen[seen.index("WORKER ") :]
    assert workers.index("worker-1") < workers.index("worker-0"), "what is not well comes first"
    cluster.up()
    screen.sees("All is well.", timeout=60)
    screen.press("q")
    poll(lambda: not screen.second_screen)
    in_order(screen, tmp_path, 0)


def test_a_terminal_is_given_back_by_whoever_is_told_to_stop(
    screen: Terminal, cluster: Cluster, tmp_path: Path
) -> None:
    screen.type("varpulis top")
    screen.sees("q ends", "coordinator-0")
    (child,) = psutil.Process(screen.shell).children()
    child.terminate()
    poll(lambda: not screen.second_screen)
    in_order(screen, tmp_path, 143)


def test_a_watched_table_changes_in_place_and_its_last_state_stays_after_ctrl_c(
    screen: Terminal, cluster: Cluster, tmp_path: Path
) -> None:
    screen.type("varpulis workers --watch --every 0.3")
    screen.sees("every 0.3 s: varpulis workers", "worker-1")
    assert "worker-2" not in screen.screen
    cluster.up("--workers", "3")
    seen = screen.sees("worker-2", timeout=60)
    assert seen.count("WORKER") == 1 and screen.second_screen
    screen.press("C-c")
    poll(lambda: not screen.second_screen)
    assert "worker-2" in screen.sees("varpulis: interrupted")
    in_order(screen, tmp_path, 130)


def test_a_cluster_that_stops_answering_is_shown_as_such_and_watching_goes_on(
    screen: Terminal, cluster: Cluster, tmp_path: Path
) -> None:
    screen.type("varpulis status --watch --every 0.3")
    screen.sees("every 0.3 s: varpulis status", "coordinator-0")
    cluster.kill("coordinator-0")
    screen.sees("NO ANSWER", "below is what there was at", "coordinator-0")
    cluster.up()
    poll(lambda: "NO ANSWER" not in screen.screen, timeout=60, what="an answer again")
    screen.press("q")
    poll(lambda: not screen.second_screen)
    in_order(screen, tmp_path, 0)
