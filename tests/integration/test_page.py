"""The page, in a real browser: it follows the cluster, does what it says, and believes nobody's markup."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.certificates import Authority
from tests.support.cluster import Cluster, environment, poll
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

MARKUP: Final = "<img src=x onerror=window.hit=1>"

CONTRAST: Final = """() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (at instanceof SVGElement && at.parentElement.querySelector("rect"))
        return channels(getComputedStyle(at.parentElement.querySelector("rect")).fill);
      if (color.length && (color[3] ?? 1) > 0.5) return color;
    }
    return channels(getComputedStyle(document.body).backgroundColor);
  };
  let texts = 0;
  const weak = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.checkVisibility?.() || node.closest("noscript, title, .skip")) continue;
    texts += 1;
    const style = getComputedStyle(node);
    const ink = channels(node instanceof SVGElement ? style.fill : style.color);
    const [high, low] = [light(ink), light(behind(node))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) weak.push(`${node.outerHTML.slice(0, 80)}: ${ratio}`);
  }
  return [texts, weak];
}"""
"""How many texts are shown, and those whose contrast to what is behind them is below 4.5."""
NAMELESS: Final = """() => [
    ...document.querySelectorAll("button, input, textarea, a, [tabindex='0'], meter"),
  ]
  .filter((node) => !(node.getAttribute("aria-label") || node.labels?.length || node.textContent.trim()))
  .map((node) => node.outerHTML.slice(0, 80))"""
"""What can be reached, or is read aloud, and has no name."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: Debian's, driven by Playwright."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab that fails the test on an error of the page, and notes where it asks."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.asked = []
    errors: list[str] = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    context.close()
    assert not errors


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("page")) as running:
        yield running


def follower(cluster: Cluster) -> str:
    leader = cluster.leader()
    return next(cluster.url(name) for name in cluster.coordinators if name != leader)


def write_program(page: Any, name: str, source: str, key: str = "") -> None:
    if key:
        page.click("#key")
        page.fill("#key-field", key)
        page.click("#confirm")
        page.wait_for_selector("#deploy[aria-disabled='false']")
    page.click("#deploy")
    page.fill("#group-name", name)
    page.fill("#group-source", source)


def test_a_mistake_is_shown_at_its_line_and_a_sound_program_runs_a_moment_later(
    cluster: Cluster, page: Any
) -> None:
    page.goto(follower(cluster))
    write_program(page, "doors", "stream Held = Door\n    .where(held_ms = 5)\n    .emit()")
    page.click("#confirm")
    page.wait_for_selector("#diagnostics pre")
    shown = page.text_content("#diagnostics")
    assert "line 2, column 20" in shown and ".where(held_ms = 5)" in shown and "`==`" in shown
    where = page.evaluate("document.getElementById('group-source').selectionStart")
    assert where == len("stream Held = Door\n") + 19, "the cursor stands at the mistake"
    assert httpx.get(f"{cluster.urls[0]}{API_BASE}/pipeline-groups").json()["total"] == 0
    page.fill("#group-source", "stream Held = Door.where(held_ms == 5).emit()")
    page.click("#confirm")
    page.wait_for_selector("article[aria-label='group doors'] >> text=running")
    assert "main" in page.text_content("article[aria-label='group doors'] svg")
    assert "pipeline running" in page.text_content("#trail")
    page.wait_for_selector("#problems >> text=All is well.")
    origin = urlsplit(page.url).netloc
    assert {urlsplit(url).netloc for url in page.asked} == {origin}, "nothing comes from elsewhere"


def test_a_whole_group_is_deployed_with_its_routes_and_each_program_s_mistakes_are_named(
    cluster: Cluster, page: Any, tmp_path: Path
) -> None:
    group: dict[str, Any] = {
        "name": "chain",
        "pipelines": [
            {"name": "first", "source": "stream Big = N.where(n > 5).emit(n: n)"},
            {"name": "second", "source": "stream All = Big\n    .emit(m: n +)"},
        ],
        "routes": [{"from_pipeline": "first", "to_pipeline": "second", "event_types": ["Big"]}],
    }
    page.goto(follower(cluster))
    page.click("#deploy")
    page.fill("#group-source", json.dumps(group)[:-1])
    page.click("#confirm")
    page.wait_for_selector("dialog .error >> text=is no JSON")
    page.fill("#group-source", json.dumps({"name": "chain", "pipelines": [None, 7]}))
    page.click("#confirm")
    page.wait_for_selector("dialog .error >> text=A group has a list")
    page.fill("#group-source", json.dumps(group))
    page.click("#confirm")
    page.wait_for_selector("#diagnostics h3 >> text=Pipeline second")
    shown = page.text_content("#diagnostics")
    assert "line 2" in shown and "Pipeline first" not in shown
    group["pipelines"][1]["source"] = "stream All = Big.emit(m: n)"
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(group))
    page.set_input_files("#group-file", str(file))
    poll(lambda: "m: n)" in page.input_value("#group-source"), what="the file is read")
    page.click("#confirm")
    page.wait_for_selector("article[aria-label='group chain'] >> text=running")
    with cluster.client() as client:
        view = client.get("/pipeline-groups/chain")
        answer = client.post("/pipeline-groups/chain/inject", {"event_type": "N", "fields": {"n": 7}})
    assert [one["pipeline_name"] for one in view["placements"]] == ["first", "second"]
    assert answer, "and it takes events"
    drawn = page.text_content("article[aria-label='group chain'] svg")
    assert "first" in drawn and "second" in drawn and "Big" in drawn


def test_markup_from_anywhere_is_shown_as_text(cluster: Cluster, page: Any) -> None:
    page.goto(follower(cluster))
    write_program(page, "markup", f"stream A = {MARKUP}\n# {MARKUP}")
    page.click("#confirm")
    page.wait_for_selector(f"#diagnostics pre >> text={MARKUP}")
    page.keyboard.press("Escape")
    with cluster.client() as client:
        pipelines = [{"name": "main", "source": "stream A = X.emit()"}]
        client.post("/pipeline-groups", {"name": "why", "pipelines": pipelines})
        client.post("/pipeline-groups/why/scale", {"pipeline": "main", "replicas": 2, "why": MARKUP})
    page.wait_for_selector(f"#trail td >> text={MARKUP}")
    assert page.evaluate("window.hit") is None and page.query_selector("img") is None
    page.click("button[aria-label='Tear down: tear down why']")
    page.click("#confirm")
    page.wait_for_selector("article[aria-label='group why']", state="detached")


def test_all_of_it_can_be_done_with_the_keyboard(cluster: Cluster, page: Any) -> None:
    page.goto(follower(cluster))
    page.wait_for_selector("#workers table")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    while page.evaluate("document.activeElement.id") != "deploy":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('dialog') !== null"), "the dialog has the focus"
    for _ in range(12):
        page.keyboard.press("Tab")
        inside = page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert inside, "it does not leave the dialog"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "deploy", "and goes back to where it was"
    page.keyboard.press("Enter")
    page.keyboard.type("typed")
    page.keyboard.press("Tab")
    page.keyboard.type("stream A = X.emit()")
    page.keyboard.press("Tab")  # the choice of a file
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("article[aria-label='group typed'] >> text=running")


def test_it_is_light_or_dark_as_the_reader_s_system_or_as_the_reader_says(
    cluster: Cluster, page: Any
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    page.goto(cluster.urls[0])
    assert page.evaluate(paper) == "rgb(13, 17, 23)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(paper) == "rgb(255, 255, 255)", "it is remembered"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_and_every_control_has_a_name(cluster: Cluster, page: Any, scheme: str) -> None:
    """The contrast that WCAG 2.2 asks of text (AA: 4.5 to 1), measured in the browser; and a name for each
    thing that can be reached with the keyboard."""

    def troubled(route: Any) -> None:
        answer = route.fetch()
        told = answer.json()
        told["workers"][0]["status"] = "unhealthy"
        for group in told["groups"]:
            group["placements"][0] |= {"status": "failed", "reason": "it fell"}
        route.fulfill(response=answer, json=told)

    with cluster.client() as client:
        pipelines = [{"name": name, "source": "stream A = X.emit()"} for name in ("one", "two")]
        client.post("/pipeline-groups", {"name": f"odd-{scheme}", "pipelines": pipelines}, wait=10)
    page.route("**/topology*", troubled)
    page.emulate_media(color_scheme=scheme)
    page.goto(follower(cluster))
    page.wait_for_selector("#problems >> text=it fell")
    page.wait_for_selector("#trail td")
    page.wait_for_function("!document.getAnimations().length")
    texts, weak = page.evaluate(CONTRAST)
    assert texts > 50 and weak == []
    page.click("#deploy")
    texts, weak = page.evaluate(CONTRAST)
    assert weak == []
    assert page.evaluate(NAMELESS) == []
    with cluster.client() as client:
        client.delete(f"/pipeline-groups/odd-{scheme}")


def test_a_drained_worker_gives_its_pipelines_away_and_says_so(cluster: Cluster, page: Any) -> None:
    pipelines = [{"name": f"p{n}", "source": "stream A = X.emit()"} for n in range(4)]
    with cluster.client() as client:
        client.post("/pipeline-groups", {"name": "even", "pipelines": pipelines}, wait=10)
    page.goto(follower(cluster))
    page.click("button[aria-label='Drain: drain worker-0']")
    assert "Nothing is placed there until you uncordon it" in page.text_content("dialog")
    page.click("#confirm")
    page.wait_for_selector("#workers >> text=cordoned")
    page.route("**/uncordon", lambda route: route.fulfill(status=503, json={"error": "not now"}))
    page.click("button[aria-label='Uncordon: uncordon worker-0']")
    page.click("#confirm")
    page.wait_for_selector("dialog .error >> text=not now")
    page.unroute("**/uncordon")
    page.click("#confirm")
    page.wait_for_selector("button[aria-label='Drain: drain worker-0']")
    page.click("#rebalance")
    page.wait_for_selector("dialog li >> text=worker-1 to worker-0")
    page.click("#confirm")
    page.wait_for_selector("#trail >> text=worker-1 to worker-0, rebalance")


def test_a_pipeline_gets_another_number_of_replicas_after_the_plan_was_shown(
    cluster: Cluster, page: Any
) -> None:
    spec = {"name": "main", "source": "stream A = X.emit(x: x)", "partition_key": "x"}
    with cluster.client() as client:
        client.post("/pipeline-groups", {"name": "wide", "pipelines": [spec]}, wait=10)
    page.goto(follower(cluster))
    page.click("button[aria-label='Scale: scale wide/main']")
    page.wait_for_selector("#plan >> text=Nothing would change.")
    page.fill("#replicas", "3")
    page.wait_for_selector("#plan li >> nth=2")
    assert "main-1: added on worker-" in page.text_content("#plan")
    page.fill("#replicas", "3000")
    page.wait_for_selector("#plan .error")
    page.fill("#replicas", "2")
    page.wait_for_selector("#plan li >> nth=1")
    with cluster.client() as client:
        assert len(client.get("/pipeline-groups/wide")["placements"]) == 1, "nothing is done yet"
    page.click("#confirm")
    page.wait_for_selector("article[aria-label='group wide'] tbody tr:nth-child(2) >> text=running")
    page.wait_for_selector("#trail >> text=group updated")


def test_leadership_goes_to_the_coordinator_that_the_reader_names(cluster: Cluster, page: Any) -> None:
    leader = cluster.leader()
    target = next(name for name in cluster.coordinators if name != leader)
    page.goto(follower(cluster))
    page.click(f"button[aria-label='Make leader: transfer {target}']")
    page.click("#confirm")
    page.wait_for_selector(f"#n-leader:text-is('{target}')")


def test_what_is_old_is_not_called_live(cluster: Cluster, page: Any) -> None:
    page.goto(follower(cluster))
    page.wait_for_selector("#connection >> text=live, from")
    page.route("**/topology*", lambda route: route.fulfill(status=503, json={"error": "too busy."}))
    page.wait_for_selector("#connection.cut >> text=This coordinator refuses: too busy.")
    page.unroute("**/topology*")
    page.wait_for_selector("#connection >> text=live, from")


def test_a_silent_coordinator_is_a_problem_on_the_page_of_every_other_one(
    cluster: Cluster, page: Any
) -> None:
    leader = cluster.leader()
    mine, dead = (name for name in cluster.coordinators if name != leader)
    page.goto(cluster.url(mine))
    page.wait_for_selector("#problems >> text=All is well.")
    cluster.kill(dead)
    page.wait_for_selector(f"#problems >> text=Coordinator {dead} is silent.")
    cluster.up()
    page.wait_for_selector("#problems >> text=All is well.")


def test_another_leader_shows_without_a_reload_and_a_dead_coordinator_is_said_to_be(
    cluster: Cluster, page: Any
) -> None:
    leader = cluster.leader()
    mine = next(name for name in cluster.coordinators if name != leader)
    page.goto(cluster.url(mine))
    page.wait_for_selector(f"#n-leader >> text={leader}")
    page.evaluate("window.here = true")
    cluster.kill(leader)
    others = ", ".join(f"#n-leader:text-is('{name}')" for name in cluster.coordinators if name != leader)
    page.wait_for_selector(others)
    assert page.evaluate("window.here"), "nothing was loaded anew"
    cluster.kill(mine)
    page.wait_for_selector("#connection.cut")
    assert page.query_selector("#connection a") is not None, "there are others to go to"
    cluster.up()
    page.wait_for_selector("#connection:not(.cut)")


def test_a_key_is_asked_for_and_each_role_is_told_what_it_may_not(tmp_path: Path, page: Any) -> None:
    cluster = Cluster(tmp_path, coordinators=1, workers=1)
    try:
        cluster.up("--require-keys")
        admin = (cluster.data_dir / "keys" / "admin.key").read_text().strip()
        made = httpx.post(
            f"{cluster.urls[0]}{API_BASE}/keys", json={"role": "viewer"}, headers={"x-api-key": admin}
        ).json()
        page.clock.install()
        page.goto(cluster.urls[0])
        page.wait_for_selector("#key-field")
        page.fill("#key-field", "wrong")
        page.click("#confirm")
        page.wait_for_selector("#connection >> text=asks for an API key")
        page.keyboard.press("Escape")
        page.clock.run_for(60_000)
        assert not page.evaluate("document.getElementById('dialog').open"), (
            "who does not want to is not asked again"
        )
        page.click("#key")
        page.fill("#key-field", made["key"])
        page.click("#confirm")
        drain = page.locator("#workers button")
        drain.wait_for()
        assert drain.get_attribute("aria-disabled") == "true"
        assert drain.get_attribute("title") == "needs the role operator; yours is viewer"
        drain.click(force=True)
        page.click("#deploy", force=True)
        assert not page.evaluate("document.getElementById('dialog').open")
        operator = httpx.post(
            f"{cluster.urls[0]}{API_BASE}/keys", json={"role": "operator"}, headers={"x-api-key": admin}
        ).json()
        write_program(page, "doors", "stream A = X.emit()", key=operator["key"])
        page.click("#confirm")
        tear_down = page.locator("button[aria-label^='Tear down']")
        tear_down.wait_for()
        assert tear_down.get_attribute("title") == "needs the role admin; yours is operator"
        tear_down.click(force=True)
        assert not page.evaluate("document.getElementById('dialog').open")
        assert drain.get_attribute("aria-disabled") is None, "an operator drains"
        assert made["key"] not in page.url and all(made["key"] not in url for url in page.asked)
    finally:
        cluster.remove()


def test_it_lives_over_tls(browser: Any, nats_server: NatsServer, tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server")
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "coordinator", "--id", "c0", "--members", "c0"]
    command += ["--cluster-id", "page", "--nats", nats_server.url, "--data-dir", str(tmp_path / "c0")]
    command += ["--http-port", str(port), "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    context = browser.new_context(ignore_https_errors=True)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as coordinator:
        try:
            url = f"https://localhost:{port}"
            poll(lambda: is_ready(url), timeout=60, what="a coordinator")
            tab = context.new_page()
            tab.set_default_timeout(20_000)
            tab.goto(url)
            tab.wait_for_selector("#connection >> text=live, from c0")
            write_program(tab, "safe", "stream A = X.emit()")
            tab.click("#confirm")
            tab.wait_for_selector("dialog .error >> text=no worker is ready")
        finally:
            context.close()
            coordinator.kill()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", verify=False, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
