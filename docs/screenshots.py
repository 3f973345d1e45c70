"""`python -m docs.screenshots`: the pictures of the page in docs/page.md, of a cluster of its own."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from tests.support.cluster import Cluster

FIGURES: Final = Path(__file__).parent / "figures"
SIZE: Final = {"width": 1100, "height": 820}
STEADY_S: Final = 4.0
"""Until the rate of events is that of the demo."""


def main() -> int:
    """Take both; 1 without Chromium."""
    program = shutil.which("chromium")
    if program is None:
        sys.stderr.write("chromium is not installed (Debian: apt-get install chromium)\n")
        return 1
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), demo=True) as cluster,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        leader = cluster.leader()
        page = browser.new_page(viewport=SIZE)
        page.goto(cluster.url(leader))
        page.wait_for_selector("#problems >> text=All is well.")
        time.sleep(STEADY_S)
        page.screenshot(path=str(FIGURES / "page-light.png"))
        cluster.kill(next(name for name in cluster.coordinators if name != leader))
        cluster.kill("worker-0")
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector("#problems >> text=is not heard any more")
        page.wait_for_selector("#problems >> text=is silent")
        page.screenshot(path=str(FIGURES / "page-dark.png"))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
